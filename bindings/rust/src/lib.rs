//! Arousal, dominance and valence of speech, frame by frame: `w2s.h` for Rust, without the standard library.
//!
//! ```
//! let mut stream = wav2small::Stream::load();
//! stream.push(&[0; 16000])?; // mono, 16 kHz, chunks of any length
//! if let Some(emotion) = stream.read() {
//!     assert!(emotion.arousal < 0.9);
//! }
//! # Ok::<(), wav2small::Error>(())
//! ```
#![no_std]

#[cfg(feature = "alloc")]
extern crate alloc;

use core::ffi::{c_char, c_int, c_void, CStr};
use core::fmt;

mod ffi {
    use super::*;

    #[repr(C)]
    pub struct Description {
        pub texts: [*const c_char; 7], // name, version, precision, licence, teacher, training_data, sha256
        pub numbers: [i32; 5],
        pub stream_bytes: usize,
    }

    extern "C" {
        pub fn w2s_describe() -> *const Description;
        pub fn w2s_init_checked(stream: *mut c_void, bytes: usize, id: u32) -> c_int;
        pub fn w2s_push_int16(stream: *mut c_void, samples: *const i16, n: c_int) -> c_int;
        pub fn w2s_push_float(stream: *mut c_void, samples: *const f32, n: c_int) -> c_int;
        pub fn w2s_finish(stream: *mut c_void) -> c_int;
        pub fn w2s_read(stream: *const c_void, emotion: *mut Emotion, embedding: *mut f32) -> c_int;
        pub fn w2s_level(stream: *mut c_void, mean: f32, variance: f32) -> c_int;
        pub fn w2s_reset(stream: *mut c_void) -> c_int;
        pub fn w2s_baseline_init(baseline: *mut Baseline, forget_dur: f32);
        pub fn w2s_baseline_add(baseline: *mut Baseline, emotion: *const Emotion, speech_dur: f32);
        pub fn w2s_baseline_deviation(baseline: *const Baseline, emotion: *const Emotion, deviation: *mut Emotion);
        pub fn w2s_baseline_ready(baseline: *const Baseline) -> c_int;
    }
}

/// Nominally 0 to 1, not clipped.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Emotion {
    pub arousal: f32,
    pub dominance: f32,
    pub valence: f32,
}

/// A call that the stream refuses; it changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// `push` after `finish`.
    Ended,
    /// More than 2147483647 samples in one call.
    TooLong,
    /// `level` for a model that does not use it, after the first sample, or with bad values.
    Level,
    /// Fewer words than `stream_words()` for `load_in`.
    Memory,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Error::Ended => "the stream has ended: call reset before push",
            Error::TooLong => "more than 2147483647 samples: push them in several chunks",
            Error::Level => {
                "level is for models normalised over the utterance, before the first sample, finite, variance >= 0"
            }
            Error::Memory => "the memory is too small: a stream needs stream_words() words",
        })
    }
}

impl core::error::Error for Error {}

fn checked(result: c_int) -> Result<usize, Error> {
    match result {
        -2 => Err(Error::Ended),
        -3 => Err(Error::TooLong),
        -6 => Err(Error::Level),
        tokens => Ok(usize::try_from(tokens).expect("the stream was initialised by load")),
    }
}

/// The model that is compiled in.
#[derive(Clone, Copy, Debug)]
pub struct Description {
    pub name: &'static str,
    pub version: &'static str,
    pub precision: &'static str,
    pub licence: &'static str,
    pub sha256: &'static str,
}

/// Name, version, precision, licence and sha256 of the weights.
pub fn describe() -> Description {
    let text = |index: usize| unsafe { CStr::from_ptr((*ffi::w2s_describe()).texts[index]) }.to_str().unwrap_or("");
    Description { name: text(0), version: text(1), precision: text(2), licence: text(3), sha256: text(6) }
}

/// Number of `u64` that a stream needs.
pub fn stream_words() -> usize {
    unsafe { (*ffi::w2s_describe()).stream_bytes }.div_ceil(8)
}

enum Memory<'m> {
    #[cfg(feature = "alloc")]
    Own(alloc::boxed::Box<[u64]>),
    Lent(&'m mut [u64]),
}

/// The prediction for a signal that arrives in chunks.
pub struct Stream<'m>(Memory<'m>);

#[cfg(feature = "alloc")]
impl Stream<'static> {
    /// A stream of the model that is compiled in.
    pub fn load() -> Self {
        Stream(Memory::Own(alloc::vec![0; stream_words()].into_boxed_slice())).initialised()
    }
}

impl<'m> Stream<'m> {
    /// The same in memory of the caller: at least `stream_words()` words.
    pub fn load_in(memory: &'m mut [u64]) -> Result<Self, Error> {
        if memory.len() < stream_words() {
            return Err(Error::Memory);
        }
        Ok(Stream(Memory::Lent(memory)).initialised())
    }

    fn initialised(mut self) -> Self {
        let bytes = unsafe { (*ffi::w2s_describe()).stream_bytes };
        let id = u32::from_str_radix(&describe().sha256[..8], 16).expect("a sha256 is hexadecimal");
        assert_eq!(unsafe { ffi::w2s_init_checked(self.pointer(), bytes, id) }, 0);
        self
    }

    fn pointer(&mut self) -> *mut c_void {
        match &mut self.0 {
            #[cfg(feature = "alloc")]
            Memory::Own(words) => words.as_mut_ptr().cast(),
            Memory::Lent(words) => words.as_mut_ptr().cast(),
        }
    }

    fn constant(&self) -> *const c_void {
        match &self.0 {
            #[cfg(feature = "alloc")]
            Memory::Own(words) => words.as_ptr().cast(),
            Memory::Lent(words) => words.as_ptr().cast(),
        }
    }

    /// Process mono samples at 16 kHz. Returns the number of completed tokens.
    pub fn push(&mut self, samples: &[i16]) -> Result<usize, Error> {
        let n = c_int::try_from(samples.len()).map_err(|_| Error::TooLong)?;
        checked(unsafe { ffi::w2s_push_int16(self.pointer(), samples.as_ptr(), n) })
    }

    /// The same for samples in [-1, 1].
    pub fn push_float(&mut self, samples: &[f32]) -> Result<usize, Error> {
        let n = c_int::try_from(samples.len()).map_err(|_| Error::TooLong)?;
        checked(unsafe { ffi::w2s_push_float(self.pointer(), samples.as_ptr(), n) })
    }

    /// End the signal. Returns the number of completed tokens.
    pub fn finish(&mut self) -> usize {
        checked(unsafe { ffi::w2s_finish(self.pointer()) }).unwrap_or(0)
    }

    /// Prediction for all samples so far; none before the first token.
    pub fn read(&self) -> Option<Emotion> {
        let mut emotion = Emotion::default();
        let result = unsafe { ffi::w2s_read(self.constant(), &mut emotion, core::ptr::null_mut()) };
        (result == 0).then_some(emotion)
    }

    /// Begin again.
    pub fn reset(&mut self) {
        unsafe { ffi::w2s_reset(self.pointer()) };
    }

    /// Mean and variance of the utterance, for models that are normalised over it; before the first sample.
    pub fn level(&mut self, mean: f32, variance: f32) -> Result<(), Error> {
        checked(unsafe { ffi::w2s_level(self.pointer(), mean, variance) }).map(|_| ())
    }
}

/// What the voice of one speaker is usually like. The members may be stored and restored.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Baseline {
    pub forget_dur: f32,
    pub speech_dur: f32,
    pub mean: Emotion,
    pub spread: Emotion,
}

impl Baseline {
    /// `forget_dur`: seconds of speech after which older speech counts less; 0 never forgets.
    pub fn new(forget_dur: f32) -> Self {
        let (mean, spread) = (Emotion::default(), Emotion::default());
        let mut baseline = Baseline { forget_dur, speech_dur: 0.0, mean, spread };
        unsafe { ffi::w2s_baseline_init(&mut baseline, forget_dur) };
        baseline
    }

    /// Include a prediction with `speech_dur` seconds of speech that no earlier one included.
    pub fn add(&mut self, emotion: &Emotion, speech_dur: f32) {
        unsafe { ffi::w2s_baseline_add(self, emotion, speech_dur) }
    }

    /// Distance of a prediction from the mean, in units of the speaker's spread.
    pub fn deviation(&self, emotion: &Emotion) -> Emotion {
        let mut distance = Emotion::default();
        unsafe { ffi::w2s_baseline_deviation(self, emotion, &mut distance) };
        distance
    }

    /// Whether it has 20 s of speech.
    pub fn is_ready(&self) -> bool {
        unsafe { ffi::w2s_baseline_ready(self) != 0 }
    }
}
