// Carries out the calls of golden.csv and compares what they return.
using System;
using System.Globalization;
using System.IO;
using System.Linq;
using Wav2Small;

static class Golden
{
    static float Distance(Emotion one, float[] other) => new[]
        { one.Arousal - other[0], one.Dominance - other[1], one.Valence - other[2] }.Max(value => Math.Abs(value));

    static bool Refuses(Action call)
    {
        try
        {
            call();
        }
        catch (InvalidOperationException)
        {
            return true;
        }
        return false;
    }

    static int Main(string[] arguments)
    {
        byte[] bytes = File.ReadAllBytes(Path.Combine(arguments[0], "clip.raw"));
        short[] clip = Enumerable.Range(0, bytes.Length / 2).Select(i => (short)(bytes[2 * i] | bytes[2 * i + 1] << 8)).ToArray();
        var stream = Wav2Small.Stream.Load();
        var baseline = new Baseline();
        var emotion = new Emotion();
        int at = 0, tokens = 0, emotions = 0;
        float tolerance = 0, largest = 0;
        foreach (string call in File.ReadLines(Path.Combine(arguments[0], "golden.csv")))
        {
            string[] words = call.Split(',');
            bool isRight = true;
            if (words[0] == "sha256")
            {
                if (words[1] == Wav2Small.Stream.Describe().Sha256) continue;
                Console.Error.WriteLine(call + ": wrong");
                return 1;
            }
            float[] numbers = words.Skip(1).Select(word => float.Parse(word, CultureInfo.InvariantCulture)).ToArray();
            int n = numbers.Length > 0 ? (int)numbers[0] : 0;
            short[] chunk = clip.Skip(at).Take(n).ToArray();
            switch (words[0])
            {
                case "tolerance": tolerance = numbers[0]; break;
                case "reset": stream.Reset(); at = tokens = 0; break;
                case "level": stream.Level(numbers[0], numbers[1]); break;
                case "push_int16": tokens += stream.Push(chunk); at += n; break;
                case "push_float": tokens += stream.Push(chunk.Select(sample => sample / 32768f).ToArray()); at += n; break;
                case "finish": tokens += stream.Finish(); break;
                case "tokens": isRight = tokens == n; break;
                case "read":
                    var read = stream.Read();
                    isRight = read.HasValue == numbers.Length > 0;
                    if (!read.HasValue || !isRight) break;
                    emotion = read.Value;
                    largest = Math.Max(largest, Distance(emotion, numbers));
                    isRight = largest <= tolerance;
                    emotions++;
                    break;
                case "deviation": isRight = Distance(baseline.Deviation(emotion), numbers) <= 1e-4f; break;
                case "add": baseline.Add(emotion, numbers[0]); break;
                case "ready": isRight = baseline.IsReady == (n == 1); break;
                case "refused_push": isRight = Refuses(() => stream.Push(clip)); break;
                case "refused_level": isRight = Refuses(() => stream.Level(0, 1)); break;
                default: isRight = false; break;
            }
            if (isRight) continue;
            Console.Error.WriteLine(call + ": wrong");
            return 1;
        }
        Console.WriteLine(string.Format(CultureInfo.InvariantCulture, "{0} emotions, largest difference {1:0.0e+00}", emotions, largest));
        return emotions > 0 ? 0 : 1;
    }
}
