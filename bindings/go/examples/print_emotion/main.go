// Raw 16-bit mono audio at 16 kHz on standard input; a prediction every half second, and at the end.
//
//	sox talk.wav -r 16000 -c 1 -b 16 -e signed -t raw - | go run ./examples/print_emotion
package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"log"
	"os"

	"wav2small"
)

func printEmotion(stream *wav2small.Stream) {
	if emotion, ok := stream.Read(); ok {
		fmt.Printf("arousal %.3f, dominance %.3f, valence %.3f\n", emotion.Arousal, emotion.Dominance, emotion.Valence)
	}
}

func main() {
	bytes, stream := make([]byte, 16000), wav2small.Load()
	for {
		n, err := io.ReadFull(os.Stdin, bytes)
		samples := make([]int16, n/2)
		for i := range samples {
			samples[i] = int16(binary.LittleEndian.Uint16(bytes[2*i:]))
		}
		if _, err := stream.Push(samples); err != nil {
			log.Fatal(err)
		}
		printEmotion(stream)
		if err != nil {
			break
		}
	}
	stream.Finish()
	printEmotion(stream)
}
