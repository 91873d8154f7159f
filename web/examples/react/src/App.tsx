import { useEmotion } from "./useEmotion";

export function App() {
  const { emotion, status, start, end, read } = useEmotion();
  const values = emotion ?? { arousal: 0, dominance: 0, valence: 0 };
  return (
    <main>
      <button onClick={start}>Start the microphone</button>
      <button onClick={end}>Stop</button>
      <input type="file" accept="audio/*" onChange={({ target }) => target.files?.[0] && read(target.files[0])} />
      <p role="status">{status}</p>
      {Object.entries(values).map(([name, value]) => (
        <p key={name}>
          <label>
            {name} <meter value={value} /> <output data-name={name}>{emotion ? value.toFixed(3) : ""}</output>
          </label>
        </p>
      ))}
    </main>
  );
}
