// Raw 16-bit mono audio at 16 kHz on standard input; a prediction every half second, and at the end.
//     sox talk.wav -r 16000 -c 1 -b 16 -e signed -t raw - | mono PrintEmotion.exe
using System;
using System.IO;
using Wav2Small;

static class PrintEmotion
{
    static void Print(Wav2Small.Stream stream)
    {
        if (stream.Read() is Emotion emotion)
            Console.WriteLine("arousal {0:0.000}, dominance {1:0.000}, valence {2:0.000}", emotion.Arousal, emotion.Dominance, emotion.Valence);
    }

    static void Main()
    {
        var audio = new MemoryStream();
        Console.OpenStandardInput().CopyTo(audio);
        byte[] bytes = audio.ToArray();
        var stream = Wav2Small.Stream.Load();
        for (int at = 0; at < bytes.Length; at += 16000)
        {
            var samples = new short[Math.Min(16000, bytes.Length - at) / 2];
            Buffer.BlockCopy(bytes, at, samples, 0, 2 * samples.Length);
            stream.Push(samples);
            Print(stream);
        }
        stream.Finish();
        Print(stream);
    }
}
