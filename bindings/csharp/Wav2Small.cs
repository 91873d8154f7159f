// Arousal, dominance and valence of speech, frame by frame: w2s.h for C#, by P/Invoke.
using System;
using System.Globalization;
using System.Runtime.InteropServices;

namespace Wav2Small
{
    /// <summary>A prediction; nominally 0 to 1, not clipped.</summary>
    [StructLayout(LayoutKind.Sequential)]
    public struct Emotion
    {
        public float Arousal, Dominance, Valence;
    }

    /// <summary>The model that is compiled in.</summary>
    public sealed class Description
    {
        public string Name, Version, Precision, Licence, Sha256;
    }

    /// <summary>The prediction for a signal that arrives in chunks. One thread at a time.</summary>
    public sealed class Stream
    {
        readonly ulong[] memory; // the C runtime keeps no pointers into it

        Stream()
        {
            var about = Native.Describe();
            memory = new ulong[((int)about.StreamBytes + 7) / 8];
            uint id = uint.Parse(Describe().Sha256.Substring(0, 8), NumberStyles.HexNumber, CultureInfo.InvariantCulture);
            Checked(Native.w2s_init_checked(memory, about.StreamBytes, id));
        }

        /// <summary>A stream of the model that is compiled in.</summary>
        public static Stream Load() => new Stream();

        /// <summary>Name, version, precision, licence and sha256 of the weights.</summary>
        public static Description Describe()
        {
            var about = Native.Describe();
            return new Description
            {
                Name = Marshal.PtrToStringAnsi(about.Name),
                Version = Marshal.PtrToStringAnsi(about.Version),
                Precision = Marshal.PtrToStringAnsi(about.Precision),
                Licence = Marshal.PtrToStringAnsi(about.Licence),
                Sha256 = Marshal.PtrToStringAnsi(about.Sha256),
            };
        }

        /// <summary>Process mono samples at 16 kHz. Returns the number of completed tokens.</summary>
        /// <exception cref="InvalidOperationException">after Finish</exception>
        public int Push(short[] samples) => Checked(Native.w2s_push_int16(memory, samples, samples.Length));

        /// <summary>The same for samples in [-1, 1].</summary>
        public int Push(float[] samples) => Checked(Native.w2s_push_float(memory, samples, samples.Length));

        /// <summary>End the signal. Returns the number of completed tokens.</summary>
        public int Finish() => Checked(Native.w2s_finish(memory));

        /// <summary>Prediction for all samples so far; null before the first token.</summary>
        public Emotion? Read() => Native.w2s_read(memory, out Emotion emotion, IntPtr.Zero) == 0 ? emotion : (Emotion?)null;

        /// <summary>Begin again.</summary>
        public void Reset() => Checked(Native.w2s_reset(memory));

        /// <summary>Mean and variance of the utterance, for models normalised over it; before the first sample.</summary>
        /// <exception cref="InvalidOperationException">for another model, later, or with bad values</exception>
        public void Level(float mean, float variance) => Checked(Native.w2s_level(memory, mean, variance));

        static int Checked(int result)
        {
            if (result == -2) throw new InvalidOperationException("The stream has ended: call Reset before Push.");
            if (result == -6)
                throw new InvalidOperationException(
                    "Level is for models normalised over the utterance, before the first sample, finite, variance >= 0.");
            if (result < 0) throw new InvalidOperationException("The stream refused the call: w2s.h, result " + result + ".");
            return result;
        }
    }

    /// <summary>What the voice of one speaker is usually like. The members may be stored and restored.</summary>
    [StructLayout(LayoutKind.Sequential)]
    public sealed class Baseline
    {
        public float ForgetDur, SpeechDur;
        public Emotion Mean, Spread;

        /// <param name="forgetDur">seconds of speech after which older speech counts less; 0 never forgets</param>
        public Baseline(float forgetDur = 0) => Native.w2s_baseline_init(this, forgetDur);

        /// <summary>Include a prediction with seconds of speech that no earlier one included.</summary>
        public void Add(Emotion emotion, float speechDur) => Native.w2s_baseline_add(this, ref emotion, speechDur);

        /// <summary>Distance of a prediction from the mean, in units of the speaker's spread.</summary>
        public Emotion Deviation(Emotion emotion)
        {
            Native.w2s_baseline_deviation(this, ref emotion, out Emotion distance);
            return distance;
        }

        /// <summary>Whether it has 20 s of speech.</summary>
        public bool IsReady => Native.w2s_baseline_ready(this) != 0;
    }

    static class Native
    {
        const string Library = "wav2small"; // libwav2small.so, libwav2small.dylib or wav2small.dll

        [StructLayout(LayoutKind.Sequential)]
        internal struct About
        {
            public IntPtr Name, Version, Precision, Licence, Teacher, TrainingData, Sha256;
            public int SamplingRate, WinLength, HopLength, FramesAToken, EmbeddingSize;
            public UIntPtr StreamBytes;
        }

        internal static About Describe() => (About)Marshal.PtrToStructure(w2s_describe(), typeof(About));

        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        static extern IntPtr w2s_describe();
        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int w2s_init_checked([In, Out] ulong[] stream, UIntPtr bytes, uint id);
        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int w2s_push_int16([In, Out] ulong[] stream, short[] samples, int n);
        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int w2s_push_float([In, Out] ulong[] stream, float[] samples, int n);
        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int w2s_finish([In, Out] ulong[] stream);
        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int w2s_read(ulong[] stream, out Emotion emotion, IntPtr embedding);
        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int w2s_reset([In, Out] ulong[] stream);
        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int w2s_level([In, Out] ulong[] stream, float mean, float variance);
        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern void w2s_baseline_init([In, Out] Baseline baseline, float forgetDur);
        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern void w2s_baseline_add([In, Out] Baseline baseline, ref Emotion emotion, float speechDur);
        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern void w2s_baseline_deviation([In] Baseline baseline, ref Emotion emotion, out Emotion deviation);
        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        internal static extern int w2s_baseline_ready([In] Baseline baseline);
    }
}
