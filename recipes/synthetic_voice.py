"""Acted speech of one synthetic Japanese voice, tohoku-f01, in four emotions and with many synthetic speakers.

    apt-get install open-jtalk open-jtalk-mecab-naist-jdic
    python recipes/synthetic_voice.py models/htsvoice-tohoku-f01 -o tohoku

The HTS voice is CC BY 4.0, Intelligent Communication Network (Ito-Nose) Laboratory, Tohoku University. The sentences
are ours and say nothing of an emotion. A speaker is a shift of pitch (-fm, half tones), a rate (-r) and a warp of the
spectrum (-a); it is the same in all four emotions. It is one person's voice all the same, and synthetic.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
import soxr

from wav2small.files import whole_file
from wav2small.network.config import SAMPLING_RATE
from wav2small.tables.table import write_table

DICTIONARY = "/var/lib/mecab/dic/open-jtalk/naist-jdic"
LABELS = {"angry": "anger", "happy": "happiness", "neutral": "neutral", "sad": "sadness"}
FOLDS = 5
LICENCE = "CC-BY-4.0"

SENTENCES = (
    "今日は駅の前で友達に会いました。",
    "机の上に本が三冊あります。",
    "明日の朝、七時に起きます。",
    "この道をまっすぐ行ってください。",
    "電車はもうすぐ着きます。",
    "窓の外に大きな木が見えます。",
    "昨日、新しい靴を買いました。",
    "猫が椅子の下で寝ています。",
    "来週、東京へ行く予定です。",
    "昼ごはんはもう食べましたか。",
    "部屋の電気がついています。",
    "彼は毎日公園を走ります。",
    "荷物は玄関に置いてあります。",
    "この箱の中に何が入っていますか。",
    "先生は教室にいます。",
    "バスは十分おきに来ます。",
    "雨が降り始めました。",
    "手紙を机の引き出しに入れた。",
    "あの店は九時に開きます。",
    "水を一杯ください。",
    "写真を壁にかけました。",
    "弟は大学で数学を勉強しています。",
    "鍵をかばんの中に入れておいた。",
    "それはあなたが決めることです。",
    "私は三階に住んでいます。",
    "隣の家の犬が鳴いている。",
    "会議は午後二時からです。",
    "もう一度、名前を言ってください。",
    "冷蔵庫に牛乳が残っています。",
    "橋を渡って右に曲がります。",
    "新聞はテーブルの上です。",
    "姉から電話がありました。",
    "ここに車を止めてはいけません。",
    "夕方には終わると思います。",
    "白いシャツを着た人が立っている。",
    "切符を二枚買っておきました。",
    "川の水が増えています。",
    "その話は前にも聞きました。",
    "階段の途中で待っていた。",
    "図書館は月曜日が休みです。",
    "ドアを閉めてから出かけた。",
    "紙と鉛筆を持ってきてください。",
    "山の上には雪があります。",
    "どうしてここにいるのですか。",
    "船は港を出ていきました。",
    "子供たちが庭で遊んでいる。",
    "机を窓のそばに動かした。",
    "父は新聞を読んでいます。",
    "次の角を左に曲がってください。",
    "みんなが帰るまで待っていました。",
)


class Speaker(NamedTuple):
    """Half tones of pitch, speaking rate and all-pass constant, the voice's own being 0, 1 and .55 (at 48 kHz)."""

    half_tones: float
    rate: float
    warp: float


def draw_speakers(number: int, seed: int) -> list[Speaker]:
    """Synthetic speakers; a lower voice has a longer vocal tract."""
    rng = np.random.default_rng(seed)
    speakers = []
    for _ in range(number):
        half_tones = float(rng.uniform(-14, 4))
        warp = 0.55 + 0.004 * (-half_tones - 2) + float(rng.uniform(-0.02, 0.02))
        speakers.append(Speaker(half_tones, float(rng.uniform(0.8, 1.25)), warp))
    return speakers


def speak(text: str, voice: Path, speaker: Speaker) -> np.ndarray:
    """A sentence, mono at 16 kHz, float32, shape=(samples,)."""
    with tempfile.TemporaryDirectory() as folder:
        wav = Path(folder) / "out.wav"
        options = {"-fm": speaker.half_tones, "-r": speaker.rate, "-a": speaker.warp}
        command = ["open_jtalk", "-x", DICTIONARY, "-m", str(voice), "-ow", str(wav)]
        command += [text for option, value in options.items() for text in (option, f"{value:.4f}")]
        subprocess.run(command, input=text.encode(), check=True)
        signal, rate = soundfile.read(wav, dtype="float32")
    resampled: np.ndarray = soxr.resample(signal, rate, SAMPLING_RATE)
    return resampled / max(1.0, float(np.abs(resampled).max()) / 0.99)


def main() -> None:
    """Write FLAC files and a manifest."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("voices", type=Path, help="folder with tohoku-f01-angry.htsvoice and the other three")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for FLAC files and manifest.csv")
    parser.add_argument("--speakers", type=int, default=20)
    parser.add_argument("--sentences", type=int, default=10, help="of each speaker, the same in each emotion")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    jobs = []
    for number, speaker in enumerate(draw_speakers(arguments.speakers, arguments.seed)):
        chosen = np.random.default_rng([arguments.seed, number]).permutation(len(SENTENCES))[: arguments.sentences]
        jobs += [(number, speaker, int(text), emotion) for text in chosen for emotion in LABELS]

    def make(job: tuple[int, Speaker, int, str]) -> dict[str, object]:
        number, speaker, text, emotion = job
        file = f"{number:02d}-{text:02d}-{emotion}.flac"
        if not (arguments.output / file).is_file():
            voice = arguments.voices / f"tohoku-f01-{emotion}.htsvoice"
            with whole_file(arguments.output / file) as temporary:
                soundfile.write(temporary, speak(SENTENCES[text], voice, speaker), SAMPLING_RATE, subtype="PCM_16")
        row = {"file": file, "speaker": f"{number:02d}", "label": LABELS[emotion], "text": SENTENCES[text]}
        return {**row, "fold": number % FOLDS, "licence": LICENCE, **speaker._asdict()}

    with ThreadPoolExecutor(2) as pool:
        rows = list(pool.map(make, jobs))
    write_table(rows, arguments.output / "manifest.csv")


if __name__ == "__main__":
    main()
