//! Carries out the calls of golden.csv and compares what they return.
use wav2small::{describe, stream_words, Baseline, Emotion, Error, Stream};

fn distance(one: Emotion, other: &[f32]) -> f32 {
    let differences = [one.arousal - other[0], one.dominance - other[1], one.valence - other[2]];
    differences.iter().fold(0.0, |largest: f32, difference| largest.max(difference.abs()))
}

fn carry_out(mut stream: Stream) {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/golden");
    let bytes = std::fs::read(format!("{folder}/clip.raw")).unwrap();
    let clip: Vec<i16> = bytes.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect();
    let (mut baseline, mut emotion) = (Baseline::new(0.0), Emotion::default());
    let (mut at, mut tokens, mut emotions, mut tolerance, mut largest) = (0, 0, 0, 0.0, 0.0_f32);
    for call in std::fs::read_to_string(format!("{folder}/golden.csv")).unwrap().lines() {
        let words: Vec<&str> = call.split(',').collect();
        let numbers: Vec<f32> = words[1..].iter().filter_map(|word| word.parse().ok()).collect();
        let n = numbers.first().map_or(0, |number| *number as usize);
        match words[0] {
            "sha256" => assert_eq!(words[1], describe().sha256),
            "tolerance" => tolerance = numbers[0],
            "reset" => {
                stream.reset();
                (at, tokens) = (0, 0);
            }
            "level" => stream.level(numbers[0], numbers[1]).unwrap(),
            "push_int16" => {
                tokens += stream.push(&clip[at..at + n]).unwrap();
                at += n;
            }
            "push_float" => {
                let samples: Vec<f32> = clip[at..at + n].iter().map(|sample| f32::from(*sample) / 32768.0).collect();
                tokens += stream.push_float(&samples).unwrap();
                at += n;
            }
            "finish" => tokens += stream.finish(),
            "tokens" => assert_eq!(tokens, n, "{call}"),
            "read" => match stream.read() {
                None => assert!(numbers.is_empty(), "{call}"),
                Some(read) => {
                    emotion = read;
                    largest = largest.max(distance(emotion, &numbers));
                    assert!(largest <= tolerance, "{call}: {emotion:?}");
                    emotions += 1;
                }
            },
            "deviation" => assert!(distance(baseline.deviation(&emotion), &numbers) <= 1e-4, "{call}"),
            "add" => baseline.add(&emotion, numbers[0]),
            "ready" => assert_eq!(baseline.is_ready(), n == 1, "{call}"),
            "refused_push" => assert_eq!(stream.push(&clip), Err(Error::Ended)),
            "refused_level" => assert_eq!(stream.level(0.0, 1.0), Err(Error::Level)),
            _ => panic!("{call}"),
        }
    }
    assert!(emotions > 0);
    println!("{emotions} emotions, largest difference {largest:.1e}");
}

#[test]
fn answers_are_golden_in_memory_of_the_caller() {
    let mut memory = vec![!0; stream_words()];
    assert_eq!(Stream::load_in(&mut memory[1..]).err(), Some(Error::Memory));
    carry_out(Stream::load_in(&mut memory).unwrap());
}

#[cfg(feature = "alloc")]
#[test]
fn answers_are_golden() {
    carry_out(Stream::load());
}
