"""Miniatures of corpora: a few files each, laid out and named as their owners do."""

from __future__ import annotations

import io
import json
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile

Build = Callable[[Path], None]


def put(root: Path, *files: str, length: int = 1600) -> None:
    """Audio under each of these names, of other noise for every name; ``length`` in samples of 16 kHz."""
    for file in files:
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(zlib.crc32(file.encode())).standard_normal(length)
        soundfile.write(path, 0.1 * noise, 16000)


def write(root: Path, file: str, text: str) -> None:
    path = root / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def named(*files: str) -> Build:
    return lambda root: put(root, *files)


def crema_d(root: Path) -> None:
    put(root, "AudioWAV/1001_IEO_HAP_LO.wav", "AudioWAV/1002_IEO_SAD_HI.wav", "AudioWAV/1003_MTI_NEU_XX.wav")
    votes = '"","A","D","F","H","N","S","fileName","numResponses","agreement","emoVote"\n'
    votes += '"100001",0,0,0,3,6,0,"1001_IEO_HAP_LO",9,0.67,"N"\n"100002",0,0,0,0,2,6,"1002_IEO_SAD_HI",8,0.75,"S"\n'
    votes += '"200001",0,0,0,9,1,0,"1001_IEO_HAP_LO",10,0.9,"H"\n"300002",9,0,0,0,0,0,"1002_IEO_SAD_HI",9,1,"A"\n'
    write(root, "processedResults/tabulatedVotes.csv", votes)


def nemo(root: Path) -> None:
    put(root, *(f"samples/{name}.wav" for name in ("SB0_surprised_1", "WR0_anger_1", "KM0_neutral_7")))
    table = "file_id\temotion\traw_text\tnormalized_text\tspeaker_id\tgender\tage\n"
    table += 'SB0_surprised_1.wav\tsurprised\tUcho "wykrywa".\tucho wykrywa\tSB0\tfemale\t23\n'
    table += (
        "WR0_anger_1.wav\tanger\tUcho.\tucho\tWR0\tmale\t40\nKM0_neutral_7.wav\tneutral\tOko.\toko\tKM0\tmale\t30\n"
    )
    write(root, "data.tsv", table)


MSP_ROWS = (
    ("MSP-PODCAST_0001_0008", "N", 4.0, 4.2, 1.0, "127", "Male", "Test1"),
    ("MSP-PODCAST_0002_0033", "H", 7.0, 5.5, 4.0, "4", "Female", "Development"),
    ("MSP-PODCAST_0153_0113", "X", 2.5, 3.0, 1.0, "Unknown", "Unknown", "Train"),
    ("MSP-PODCAST_0200_0001", "C", 1.0, 1.0, 7.0, "9", "Female", "Test2"),
)
"""FileName, EmoClass, EmoAct, EmoVal, EmoDom, SpkrID, Gender, Split_Set."""


def msp_podcast(root: Path) -> None:
    put(root, *(f"Audios/{row[0]}.wav" for row in MSP_ROWS))
    table = "FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Gender,Split_Set\n"
    table += "".join(",".join([f"{row[0]}.wav", *map(str, row[1:])]) + "\n" for row in MSP_ROWS)
    write(root, "Labels/labels_consensus.csv", table)


def msp_podcast_json(root: Path) -> None:
    put(root, *(f"Audio/{row[0]}.wav" for row in MSP_ROWS))
    columns = ("EmoClass", "EmoAct", "EmoVal", "EmoDom", "SpkrID", "Gender", "Split_Set")
    content = {f"{row[0]}.wav": dict(zip(columns, row[1:], strict=True)) for row in MSP_ROWS}
    write(root, "Labels/labels_consensus.json", json.dumps(content))


def msp_podcast_early(root: Path) -> None:
    """An early release: misspelt, and without speaker and split in the table."""
    put(root, *(f"Audio/{row[0]}.wav" for row in MSP_ROWS))
    table = "FileName,EmoClass,EmoAct,EmoVal,EmoDom,Gender\n"
    table += "".join(f"{r[0]}.wav,{r[1]},{r[2]},{r[3]},{r[4]},{r[6]}\n" for r in MSP_ROWS)
    write(root, "Labels/labels_concensus.csv", table)
    write(root, "Partitions.txt", "".join(f"{row[7]}; {row[0]}.wav\n" for row in MSP_ROWS))
    speakers = [row[5] if row[5] == "Unknown" else f"Speaker_{row[5]}" for row in MSP_ROWS]
    names = [row[0] for row in MSP_ROWS]
    write(root, "Speaker_ids.txt", "".join(f"{n}.wav; {s}\n" for n, s in zip(names, speakers, strict=True)))


def iemocap(root: Path) -> None:
    for session in range(1, 6):
        first, second = f"Ses0{session}F_impro01", f"Ses0{session}M_script01_1"
        for dialogue, gender in ((first, "F"), (first, "M"), (second, "M")):
            put(root, f"Session{session}/sentences/wav/{dialogue}/{dialogue}_{gender}000.wav")
        put(root, f"Session{session}/dialog/wav/{first}.wav")
        lines = "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n"
        lines += f"[6.2901 - 8.2357]\t{first}_F000\tneu\t[2.5000, 3.0000, 1.0000]\n"
        lines += "C-E2:\tNeutral;\t()\nA-E3:\tval 3; act 2; dom  2;\t()\n\n"
        lines += f"[8.5 - 9.2357]\t{first}_M000\txxx\t[1.0000, 5.0000, 3.0000]\n"
        folder = f"Session{session}/dialog/EmoEvaluation"
        write(root, f"{folder}/{first}.txt", lines)
        write(root, f"{folder}/{second}.txt", f"[1.0 - 2.0]\t{second}_M000\tfru\t[3.0000, 3.0000, 3.0000]\n")
        write(root, f"{folder}/Categorical/{first}_e2_cat.txt", f"{first}_F000 :Neutral; ()\n")


def msp_improv(root: Path) -> None:
    text = ""
    for session in range(1, 4):
        for turn, ratings in (
            (f"S01A-F0{session}-P-FM01", "N; A:2.600000; V:3.000000; D:5.000000 ; N:3.2;"),
            (f"S02H-M0{session}-R-MF02", "H; A:3.000000; V:4.000000; D:NaN ; N:3.2;"),
        ):
            put(root, f"session{session}/{turn[:4]}/{turn[9]}/MSP-IMPROV-{turn}.wav")
            text += f"UTD-IMPROV-{turn}.avi; {ratings}\nER1; Neutral; Neutral; A:2; V:3; D:5; N:3;\n\n"
    write(root, "Evalution.txt", text)


def msp_conversation(root: Path) -> None:
    """Two parts of one conversation, which begins at 100 s of its podcast; the second part is rated higher."""
    put(root, "Audio/MSP-Conversation_0047.wav", "Audio/MSP-Conversation_0050.wav", length=22 * 16000)
    write(root, "Time_Labels/conversations.txt", "MSP-Conversation_0047;100.0;122.0\nMSP-Conversation_0050;0;5.5\n")
    parts = "MSP-Conversation_0047_1;100.0;110.0\nMSP-Conversation_0047_2;110.0;122.0\nMSP-Conversation_0050_1;0;5.5\n"
    write(root, "Time_Labels/conversation_parts.txt", parts)
    write(root, "partitions.txt", "MSP-Conversation_0047;Train\nMSP-Conversation_0050;Validation\n")
    head = "Time of Rating,now\nMultimedia File,x.wav\nMinimum Value,-100\nSecond,Rating\n%%%%%%,%%%%%%\n"
    for dimension, level in (("Arousal", 0), ("Dominance", -100), ("Valence", 50)):
        for part, seconds, raise_by in (("0047_1", 10, 0), ("0047_2", 12, 50), ("0050_1", 6, 20)):
            for rater, lean in (("001", 10), ("004", -10)):
                rate = level + raise_by + (lean if level + raise_by > -100 else 0)
                ratings = "".join(f"{second}.5,{rate}\n" for second in range(seconds))
                write(root, f"Annotations/{dimension}/MSP-Conversation_{part}_{rater}.csv", head + ratings)


def allosat(root: Path) -> None:
    """Three calls, rated from 0 to 10; of the first, the file is cut by semicolons, as the owner's is."""
    for number, (call, split) in enumerate((("c1", "train"), ("c2", "dev"), ("c3", "test"))):
        put(root, f"Wavs/{split}/{call}.wav")
        write(root, f"Parts/{split}.txt", f"{call}\n")
        cut = ";" if number == 0 else ","
        lines = [cut.join((call, str(0.25 * moment), str(2.5 * number + moment))) for moment in (1, 2, 3)]
        write(
            root, f"Annots/labels_0.25/{call}.csv", cut.join(("name", "time", "satisfaction")) + "\n" + "\n".join(lines)
        )


def meld(root: Path) -> None:
    folders = {"train": "train_splits", "dev": "dev_splits_complete", "test": "output_repeated_splits_test"}
    for number, (split, folder) in enumerate(folders.items()):
        put(root, f"{folder}/dia0_utt0.wav", f"{folder}/dia0_utt1.wav")
        table = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime\n"
        table += f'1,"Oh, my",Guest {number},joy,positive,0,0,8,21,"00:16:16,059","00:16:21,731"\n'
        table += '2,No,Chandler,neutral,neutral,0,1,8,21,"00:16:16,059","00:16:21,731"\n'
        write(root, f"{split}_sent_emo.csv", table)


def plain(root: Path) -> None:
    put(root, "a/1.wav", "a/2.wav", "b/1.wav")
    write(root, "manifest.csv", "file,speaker,label,fold\na/1.wav,a,anger,7\na/2.wav,a,,7\nb/1.wav,b,sadness,8\n")


def webdataset(root: Path) -> None:
    put(root / "loose", "x/1.wav", "x/2.wav")
    for number in (1, 2):
        columns = {"speaker_id": f"s{number}", "arousal": 0.5, "dominance": 0.25, "valence": 1.0}
        columns |= {"split": "validation", "file": "elsewhere.wav"}
        with tarfile.open(root / f"shard-{number:06}.tar", "w") as tar:
            content = (root / "loose" / f"x/{number}.wav").read_bytes()
            for name, data in ((f"x/{number}.wav", content), (f"x/{number}.json", json.dumps(columns).encode())):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
            member = tarfile.TarInfo(f"x/{number}.cls")
            member.size = 5
            tar.addfile(member, io.BytesIO(b"anger"))
    for path in sorted((root / "loose").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    (root / "loose").rmdir()


def datasets(root: Path) -> None:
    from datasets import Audio, ClassLabel, Dataset, DatasetDict, disable_progress_bars

    disable_progress_bars()
    put(root.parent / "loose", "1.wav", "2.wav", "3.wav")
    parts = {}
    for split, numbers in (("train", (1, 2)), ("validation", (3,))):
        rows = {
            "audio": [str(root.parent / "loose" / f"{number}.wav") for number in numbers],
            "emotion": [number % 2 for number in numbers],
            "speaker_id": [f"s{number}" for number in numbers],
            "mood": [[1, 2] for _ in numbers],
        }
        part = Dataset.from_dict(rows).cast_column("audio", Audio(decode=False))
        parts[split] = part.cast_column("emotion", ClassLabel(names=["anger", "joy"]))
    DatasetDict(parts).save_to_disk(root)


def audformat(root: Path) -> None:
    import audformat

    put(root, "wav/1.wav", "wav/2.wav")
    database = audformat.Database("mini", source="s", usage="research")
    database.schemes["emotion"] = audformat.Scheme(labels=["anger", "neutral"])
    database.schemes["speaker"] = audformat.Scheme("str")
    database.schemes["rating"] = audformat.Scheme("float", minimum=1, maximum=7)
    database.splits["train"] = audformat.Split("train")
    database.splits["dev"] = audformat.Split("dev")
    database["files"] = audformat.Table(audformat.filewise_index(["wav/1.wav", "wav/2.wav"]))
    database["files"]["speaker"] = audformat.Column(scheme_id="speaker")
    database["files"]["speaker"].set(["a", "b"])
    segments = audformat.segmented_index(["wav/1.wav", "wav/1.wav"], ["0s", "0.04s"], ["0.04s", "0.1s"])
    for split, index, values in (
        ("train", segments, (4.0, 7.0)),
        ("dev", audformat.filewise_index("wav/2.wav"), (1.0,)),
    ):
        table = database[f"emotion.{split}"] = audformat.Table(index, split_id=split)
        table["emotion"] = audformat.Column(scheme_id="emotion")
        table["emotion"].set(["anger"] * len(values))
        for dimension in ("activation", "dominance", "valence"):
            table[dimension] = audformat.Column(scheme_id="rating")
            table[dimension].set(list(values))
    database.save(root)


MINIATURES: dict[str, Build] = {
    "aesdd": named("anger/a01 (1).wav", "sadness/s05 (3)b.wav", "fear/f20 (12).wav"),
    "allosat": allosat,
    "audformat": audformat,
    "crema-d": crema_d,
    "datasets": datasets,
    "emodb": named("wav/03a01Fa.wav", "wav/08b10Wb.wav", "wav/16a02Lc.wav"),
    "emogator": named("data/mp3/000001-30-1.wav", "data/mp3/000002-07-3.wav", "data/mp3/000357-18-2.wav"),
    "esd": named(
        "0001/Angry/evaluation/0001_000351.wav", "0001/Sad/train/0001_001401.wav", "0012/Happy/0012_000701.wav"
    ),
    "iemocap": iemocap,
    "jl": named("female1_angry_10a_1.wav", "female2_encouraging_2b_2.wav", "male1_excited_15a_1.wav"),
    "meld": meld,
    "msp-conversation": msp_conversation,
    "msp-improv": msp_improv,
    "msp-podcast": msp_podcast,
    "nemo": nemo,
    "plain": plain,
    "ravdess": named(
        "Actor_01/03-01-01-01-01-01-01.wav", "Actor_12/03-01-05-02-02-01-12.wav", "Actor_24/03-01-08-01-01-02-24.wav"
    ),
    "savee": named("AudioData/DC/sa03.wav", "AudioData/KL/a15.wav", "ALL/JE_n30.wav"),
    "shemo": named("female/F03S02.wav", "male/M02F01.wav", "male/M56W10.wav"),
    "tess": named("OAF_Fear/OAF_back_fear.wav", "OAF_neutral/OA_bite_neutral.wav", "YAF_ps/YAF_dog_ps.wav"),
    "webdataset": webdataset,
}
"""Name of a corpus -> what builds its miniature in a folder."""
