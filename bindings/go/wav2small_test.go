package wav2small

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"testing"
)

func distance(one Emotion, other []float32) float64 {
	largest := 0.0
	for i, value := range []float32{one.Arousal, one.Dominance, one.Valence} {
		largest = math.Max(largest, math.Abs(float64(value-other[i])))
	}
	return largest
}

// Carries out the calls of golden.csv and compares what they return.
func TestGolden(t *testing.T) {
	bytes, err := os.ReadFile("golden/clip.raw")
	if err != nil {
		t.Fatal(err)
	}
	clip := make([]int16, len(bytes)/2)
	signal := make([]float32, len(clip))
	for i := range clip {
		clip[i] = int16(binary.LittleEndian.Uint16(bytes[2*i:]))
		signal[i] = float32(clip[i]) / 32768
	}
	lines, err := os.Open("golden/golden.csv")
	if err != nil {
		t.Fatal(err)
	}
	defer lines.Close()

	stream, baseline := Load(), NewBaseline(0)
	var emotion Emotion
	var tolerance, largest float64
	at, tokens, emotions := 0, 0, 0
	for scanner := bufio.NewScanner(lines); scanner.Scan(); {
		call := scanner.Text()
		words := strings.Split(call, ",")
		var numbers []float32
		for _, word := range words[1:] {
			number, _ := strconv.ParseFloat(word, 32)
			numbers = append(numbers, float32(number))
		}
		n, completed := 0, 0
		if len(numbers) > 0 {
			n = int(numbers[0])
		}
		var err error
		isRight := true
		switch words[0] {
		case "sha256":
			isRight = Describe().SHA256 == words[1]
		case "tolerance":
			tolerance = float64(numbers[0])
		case "reset":
			stream.Reset()
			at, tokens = 0, 0
		case "level":
			err = stream.Level(numbers[0], numbers[1])
		case "push_int16":
			completed, err = stream.Push(clip[at : at+n])
			at += n
		case "push_float":
			completed, err = stream.PushFloat(signal[at : at+n])
			at += n
		case "finish":
			completed, err = stream.Finish()
		case "tokens":
			isRight = tokens == n
		case "read":
			read, ok := stream.Read()
			isRight = ok == (len(numbers) > 0)
			if ok && isRight {
				emotion = read
				largest = math.Max(largest, distance(emotion, numbers))
				isRight = largest <= tolerance
				emotions++
			}
		case "deviation":
			isRight = distance(baseline.Deviation(emotion), numbers) <= 1e-4
		case "add":
			baseline.Add(emotion, numbers[0])
		case "ready":
			isRight = baseline.IsReady() == (n == 1)
		case "refused_push":
			_, refusal := stream.Push(clip)
			isRight = refusal == ErrEnded
		case "refused_level":
			isRight = stream.Level(0, 1) == ErrLevel
		default:
			isRight = false
		}
		tokens += completed
		if !isRight || err != nil {
			t.Fatal(call, emotion, err)
		}
	}
	if emotions == 0 {
		t.Fatal("golden.csv has no emotions")
	}
	fmt.Printf("%d emotions, largest difference %.1e\n", emotions, largest)
}
