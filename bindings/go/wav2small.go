// Package wav2small computes arousal, dominance and valence of speech, frame by frame: w2s.h for Go.
//
//	stream := wav2small.Load()
//	stream.Push(samples) // mono, 16 kHz, any length
//	if emotion, ok := stream.Read(); ok {
//		fmt.Println(emotion.Arousal)
//	}
package wav2small

/*
#cgo CFLAGS: -std=c99 -O3
#include "w2s.h"
*/
import "C"

import (
	"errors"
	"unsafe"
)

// Errors of calls that the stream refuses, which change nothing.
var (
	ErrEnded   = errors.New("wav2small: the stream has ended: call Reset before Push")
	ErrTooLong = errors.New("wav2small: more than 2147483647 samples: push them in several chunks")
	ErrLevel   = errors.New("wav2small: Level is for models normalised over the utterance, before the first sample, finite, variance >= 0")
)

// Emotion is a prediction; nominally 0 to 1, not clipped.
type Emotion struct{ Arousal, Dominance, Valence float32 }

// Description is about the model that is compiled in.
type Description struct{ Name, Version, Precision, Licence, SHA256 string }

// Describe returns name, version, precision, licence and sha256 of the weights.
func Describe() Description {
	about := C.w2s_describe()
	return Description{
		C.GoString(about.name), C.GoString(about.version), C.GoString(about.precision), C.GoString(about.licence),
		C.GoString(about.sha256),
	}
}

// Stream is the prediction for a signal that arrives in chunks. It is for one goroutine at a time.
type Stream struct{ memory C.w2s_stream }

// Load returns a stream of the model that is compiled in.
func Load() *Stream {
	stream := new(Stream)
	if result := C.w2s_init_checked(&stream.memory, C.sizeof_w2s_stream, C.W2S_ID); result != C.W2S_OK {
		panic("wav2small: w2s.h and w2s.c are of different models")
	}
	return stream
}

// Push processes mono samples at 16 kHz. It returns the number of completed tokens.
func (stream *Stream) Push(samples []int16) (int, error) {
	n, err := length(len(samples))
	if err != nil || n == 0 {
		return 0, err
	}
	return checked(C.w2s_push_int16(&stream.memory, (*C.int16_t)(unsafe.Pointer(&samples[0])), n))
}

// PushFloat does the same for samples in [-1, 1].
func (stream *Stream) PushFloat(samples []float32) (int, error) {
	n, err := length(len(samples))
	if err != nil || n == 0 {
		return 0, err
	}
	return checked(C.w2s_push_float(&stream.memory, (*C.float)(unsafe.Pointer(&samples[0])), n))
}

// Finish ends the signal. It returns the number of completed tokens.
func (stream *Stream) Finish() (int, error) { return checked(C.w2s_finish(&stream.memory)) }

// Read returns the prediction for all samples so far; false before the first token.
func (stream *Stream) Read() (Emotion, bool) {
	var emotion C.w2s_emotion
	ok := C.w2s_read(&stream.memory, &emotion, nil) == C.W2S_OK
	return fromC(emotion), ok
}

// Reset begins again.
func (stream *Stream) Reset() { C.w2s_reset(&stream.memory) }

// Level sets mean and variance of the utterance, for models normalised over it; before the first sample.
func (stream *Stream) Level(mean, variance float32) error {
	_, err := checked(C.w2s_level(&stream.memory, C.float(mean), C.float(variance)))
	return err
}

// Baseline is what the voice of one speaker is usually like. The members may be stored and restored.
type Baseline struct {
	ForgetDur, SpeechDur float32
	Mean, Spread         Emotion
}

// NewBaseline returns an average speaker. After forgetDur seconds of speech, older speech counts less; 0 never forgets.
func NewBaseline(forgetDur float32) *Baseline {
	baseline := new(Baseline)
	C.w2s_baseline_init(baseline.c(), C.float(forgetDur))
	return baseline
}

// Add includes a prediction with speechDur seconds of speech that no earlier one included.
func (baseline *Baseline) Add(emotion Emotion, speechDur float32) {
	included := emotion.c()
	C.w2s_baseline_add(baseline.c(), &included, C.float(speechDur))
}

// Deviation is the distance of a prediction from the mean, in units of the speaker's spread.
func (baseline *Baseline) Deviation(emotion Emotion) Emotion {
	compared := emotion.c()
	var distance C.w2s_emotion
	C.w2s_baseline_deviation(baseline.c(), &compared, &distance)
	return fromC(distance)
}

// IsReady tells whether it has 20 s of speech.
func (baseline *Baseline) IsReady() bool { return C.w2s_baseline_ready(baseline.c()) != 0 }

// Both structures are eight floats in the same order.
func (baseline *Baseline) c() *C.w2s_baseline { return (*C.w2s_baseline)(unsafe.Pointer(baseline)) }

func (emotion Emotion) c() C.w2s_emotion {
	return C.w2s_emotion{C.float(emotion.Arousal), C.float(emotion.Dominance), C.float(emotion.Valence)}
}

func fromC(emotion C.w2s_emotion) Emotion {
	return Emotion{float32(emotion.arousal), float32(emotion.dominance), float32(emotion.valence)}
}

func length(n int) (C.int, error) {
	if n != int(C.int(n)) {
		return 0, ErrTooLong
	}
	return C.int(n), nil
}

func checked(result C.int) (int, error) {
	switch result {
	case C.W2S_ENDED:
		return 0, ErrEnded
	case C.W2S_OTHER_LEVEL:
		return 0, ErrLevel
	case C.W2S_NOT_BEGUN:
		panic("wav2small: a Stream comes from Load")
	}
	return int(result), nil
}
