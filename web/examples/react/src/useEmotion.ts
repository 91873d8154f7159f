// Arousal, dominance and valence of the microphone or of a file, as state of a component.
import { useEffect, useRef, useState } from "react";
import { type Emotion, Live, listen, load } from "wav2small";

export function useEmotion() {
  const [emotion, setEmotion] = useState<Emotion | null>(null);
  const [status, setStatus] = useState("Choose a file, or start the microphone.");
  const stop = useRef<() => Promise<void>>(undefined);

  async function end() {
    await stop.current?.();
    stop.current = undefined;
  }
  useEffect(() => () => void end(), []);

  /** The last three seconds of the microphone, every half second, from an AudioWorklet. */
  async function start() {
    await end();
    try {
      stop.current = await listen(
        (event) => {
          setEmotion(event.emotion);
          setStatus(`${event.end.toFixed(1)} s of the microphone${event.emotion ? "" : ": too little speech"}`);
        },
        { onEnd: setStatus },
      );
    } catch (error) {
      setStatus(String(error));
    }
  }

  /** A whole file. */
  async function read(file: File) {
    await end();
    try {
      const buffer = await new OfflineAudioContext(1, 1, 48000).decodeAudioData(await file.arrayBuffer());
      const model = await load();
      const live = new Live(model, buffer.sampleRate);
      live.push(buffer.getChannelData(0));
      live.finish();
      setEmotion(model.read());
      setStatus(`${buffer.duration.toFixed(1)} s of ${file.name}`);
    } catch (error) {
      setStatus(`${file.name}: ${error}`);
    }
  }

  return { emotion, status, start, end, read };
}
