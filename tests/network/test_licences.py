"""Licences are carried from teacher to labels, weights and exported files."""

from __future__ import annotations

import pytest

from wav2small.network.licences import is_non_commercial, joined, of_weights


def test_all_licences_are_kept_each_once():
    assert joined(["MIT", "", "MIT AND CC-BY-NC-SA-4.0", "CC0-1.0"]) == "MIT AND CC-BY-NC-SA-4.0 AND CC0-1.0"
    assert joined([]) == joined([""]) == ""


@pytest.mark.parametrize("licence", ["CC-BY-NC-SA-4.0", "MIT AND CC-BY-NC-4.0", "non-commercial", "research only"])
def test_what_is_not_for_sale(licence):
    assert is_non_commercial(licence)


@pytest.mark.parametrize("licence", ["MIT", "Apache-2.0", "CC-BY-4.0", "", "NCSA", "LicenseRef-MINC"])
def test_what_is(licence):
    assert not is_non_commercial(licence)


def test_weights_have_the_licence_of_the_strictest_label():
    assert of_weights([]) == of_weights(["MIT", "Apache-2.0"]) == "Apache-2.0"
    assert of_weights(["Apache-2.0", "MIT AND CC-BY-NC-SA-4.0"]) == "CC-BY-NC-SA-4.0"
    assert of_weights(["CC-BY-NC-4.0", "CC-BY-NC-SA-4.0"]) == "CC-BY-NC-4.0 AND CC-BY-NC-SA-4.0"
