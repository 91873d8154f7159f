"""The baseline in JavaScript is the one in Python, and each reads the other's file."""

from __future__ import annotations

import json
import shutil
import subprocess

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_web import NAMES, WEB

from wav2small import Baseline, Emotion, load, load_baseline
from wav2small.errors import WeightsError

pytestmark = pytest.mark.skipif(not shutil.which("node"), reason="needs node")
PROGRAM = """
import { readFileSync } from "node:fs";
import { Baseline, load } from "./web/node.js";
const { about } = await load();
const emotion = ([arousal, dominance, valence]) => ({ arousal, dominance, valence });
const cases = JSON.parse(readFileSync(0)).map(({ start, forgetDur, answers, last, isOther }) => {
  try {
    const model = isOther ? { ...about, precision: "fp32" } : about;
    const baseline = start ? Baseline.fromJSON(start, model) : new Baseline({ about, forgetDur });
    for (const [answer, speechDur] of answers) baseline.add(emotion(answer), speechDur);
    const content = JSON.parse(JSON.stringify(baseline));
    const again = Baseline.fromJSON(content);
    const deviations = [baseline, again].map((one) => one.deviation(emotion(last)));
    return { isReady: baseline.isReady, content, deviations };
  } catch (error) { return { refused: error.message }; }
});
console.log(JSON.stringify(cases));
"""
value, dur = st.floats(-0.25, 1.25), st.floats(0, 30)
CASE = st.fixed_dictionaries(
    {
        "forgetDur": st.none() | st.floats(1, 600),
        "answers": st.lists(st.tuples(st.tuples(value, value, value), dur), max_size=40),
        "last": st.tuples(value, value, value),
    }
)


def in_node(cases: list[dict]) -> list[dict]:
    command = ["node", "--input-type=module", "-e", PROGRAM]
    done = subprocess.run(command, cwd=WEB.parent, input=json.dumps(cases), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def spoken(case: dict) -> Baseline:
    baseline = Baseline(case["forgetDur"])
    for answer, speech_dur in case["answers"]:
        baseline.add(Emotion(*answer), speech_dur)
    return baseline


def case_of(start: dict | None = None, **other: object) -> dict:
    return {"start": start, "forgetDur": None, "answers": [], "last": [0.1, 0.5, 0.9]} | other


LONGER_THAN_MEMORY = {"forgetDur": 1.0, "answers": [((1.1, 0.0, 0.45), 30.0)], "last": (0.1, 0.5, 0.9)}


@settings(max_examples=3, deadline=None)
@example([LONGER_THAN_MEMORY])
@given(st.lists(CASE, min_size=20, max_size=40))
def test_it_equals_python_s_for_any_answers_forgetting_or_not(cases):
    for case, found in zip(cases, in_node(cases), strict=True):
        expected = spoken(case)
        content = found["content"]
        assert (found["isReady"], content["forget_dur"]) == (expected.is_ready, case["forgetDur"])
        assert content["speech_dur"] == pytest.approx(expected.speech_dur)
        for name in ("mean", "spread"):
            found_values = [content[name][dimension] for dimension in NAMES]
            np.testing.assert_allclose(found_values, getattr(expected, name), atol=1e-12)
        for deviation in found["deviations"]:
            expected_deviation = expected.deviation(Emotion(*case["last"]))
            np.testing.assert_allclose([deviation[name] for name in NAMES], expected_deviation, atol=1e-9)


def test_python_reads_a_file_of_the_page_and_binds_it_to_micro_in_integers(tmp_path):
    case = case_of(answers=[[[0.2, 0.4, 0.6], 25.0]])
    (tmp_path / "page.json").write_text(json.dumps(in_node([case])[0]["content"]))
    baseline = load_baseline(tmp_path / "page.json")
    np.testing.assert_allclose(baseline.mean, spoken(case).mean)
    for backend in ("onnx", "numpy"):
        baseline.bind(load("micro:int8", backend).metadata)
    with pytest.raises(WeightsError, match=r"the baseline is of micro \S+ int8 .* the weights are micro \S+ fp32"):
        baseline.bind(load("micro").metadata)


def test_the_page_reads_a_file_of_python_and_refuses_others(tmp_path):
    baseline = Baseline(forget_dur=600.0, speech_dur=8.0, mean=np.array([0.2, 0.4, 0.6]), is_enrolled=True)
    baseline.bind(load("micro:int8").metadata)
    baseline.save(tmp_path / "a.json")
    content = json.loads((tmp_path / "a.json").read_text())
    wrong = [content | {"is_calibrated": True}, content | {"wav2small": "head"}, content | {"mean": {"arousal": 0.5}}]
    wrong += [content | {"spread": dict.fromkeys(NAMES, -1)}, content | {"speech_dur": None}]
    cases = [case_of(content), case_of(content, isOther=True), *map(case_of, wrong)]
    same, other, calibrated, *broken = in_node(cases)
    assert same["content"] == content and same["isReady"]
    found = [same["deviations"][0][name] for name in NAMES]
    np.testing.assert_allclose(found, baseline.deviation(Emotion(0.1, 0.5, 0.9)))
    assert "The baseline is of micro" in other["refused"] and "int8, the model is micro" in other["refused"]
    assert "enroll again without --calibrated" in calibrated["refused"]
    assert {one["refused"] for one in broken} == {"This is not a baseline that wav2small wrote"}
