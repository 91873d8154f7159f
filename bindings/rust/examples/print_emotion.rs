//! Raw 16-bit mono audio at 16 kHz on standard input; a prediction every half second, and at the end.
//!
//!     sox talk.wav -r 16000 -c 1 -b 16 -e signed -t raw - | cargo run --example print_emotion
use std::io::{Error, Read};

fn print(stream: &wav2small::Stream) {
    if let Some(emotion) = stream.read() {
        println!("arousal {:.3}, dominance {:.3}, valence {:.3}", emotion.arousal, emotion.dominance, emotion.valence);
    }
}

fn main() -> Result<(), Error> {
    let mut bytes = Vec::new();
    std::io::stdin().read_to_end(&mut bytes)?;
    let samples: Vec<i16> = bytes.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect();
    let mut stream = wav2small::Stream::load();
    for chunk in samples.chunks(8000) {
        stream.push(chunk).map_err(Error::other)?;
        print(&stream);
    }
    stream.finish();
    print(&stream);
    Ok(())
}
