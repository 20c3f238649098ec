"""The page as a file: it loads nothing, tells nothing, and holds the pictures level by level."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from aureole.core.errors import InputError
from aureole.refine.study import Study, StudyPair, read_key, study_page, write_study
from aureole.refine.study.page import address


def decoded(text: str) -> np.ndarray:
    kind, _, content = text.partition(",")
    assert kind == "data:image/png;base64"
    image = Image.open(io.BytesIO(base64.b64decode(content)))
    assert image.format == "PNG"
    assert not image.info  # no text, no time, no program
    return np.asarray(image)


def data_of(page: str) -> dict[str, Any]:
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])


@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_comes_back_level_by_level(channels: int) -> None:
    levels = torch.arange(256 * channels, dtype=torch.float32).reshape(16, 16, channels) % 256
    image = (levels / 255).movedim(-1, 0)
    expected = levels.numpy().astype(np.uint8)
    assert np.array_equal(decoded(address(image)), expected[..., 0] if channels == 1 else expected)


def test_the_page_loads_nothing(made_up: Callable[..., Study]) -> None:
    page = study_page(made_up(show_clean=True))
    assert "://" not in page
    assert "default-src 'none'" in page
    without_data = page.replace(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1], "")
    for word in ("@import", "url(", "fetch(", "XMLHttpRequest", "sendBeacon", "WebSocket", "src="):
        assert word not in without_data
    assert page == study_page(made_up(show_clean=True))


def test_the_page_is_well_formed(made_up: Callable[..., Study]) -> None:
    empty, names, opened = {"meta", "img", "circle"}, [], []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            values = dict(attrs)
            names.extend(value for name, value in attrs if name == "id")
            assert tag != "img" or values["alt"]
            assert tag != "button" or values["type"] == "button"
            if tag not in empty:
                opened.append(tag)

        def handle_endtag(self, tag: str) -> None:
            if tag not in empty:
                assert opened.pop() == tag

    page = study_page(made_up())
    Reader().feed(page)
    assert opened == []
    assert len(set(names)) == len(names)
    assert set(re.findall(r'labelledby="(\w+)"', page)) <= set(names)
    assert set(re.findall(r'at\("(\w+)"\)', page)) - set(names) == {"clean"}  # there where it is shown


def test_the_page_holds_the_pictures_but_not_which_is_which(made_up: Callable[..., Study]) -> None:
    study = made_up()
    page, keys = study_page(study), {key.pair: key for key in study.key.pairs}
    data = data_of(page)
    assert (data["format"], data["study"]) == (1, study.identifier)
    assert [pair["pair"] for pair in data["pairs"]] == sorted(keys)
    pictures = {key.source: pair.source for key, pair in zip(study.key.pairs, study.pairs, strict=True)}
    pictures |= {key.refined: pair.refined for key, pair in zip(study.key.pairs, study.pairs, strict=True)}
    for pair in data["pairs"]:
        key, shown = keys[pair["pair"]], [picture["name"] for picture in pair["pictures"]]
        assert shown == sorted([key.source, key.refined])
        assert set(pair) == {"pair", "attack", "size", "pictures", "clean"}
        assert pair["clean"] is None
        assert pair["size"] == [8, 8]
        for picture in pair["pictures"]:
            expected = torch.round(pictures[picture["name"]] * 255).movedim(0, -1).numpy()
            assert np.array_equal(decoded(picture["address"]), expected)
    words = re.sub(r"base64,[\w+/=]*", "", page).lower()
    assert not re.search(r"source|refine|adversarial|victim|perturb", words)


def test_the_clean_picture_is_shown_where_it_is_asked_for(made_up: Callable[..., Study]) -> None:
    study = made_up(show_clean=True)
    page = study_page(study)
    assert 'id="clean"' in page
    assert 'id="clean"' not in study_page(made_up())
    cleans = {key.pair: address(pair.clean) for key, pair in zip(study.key.pairs, study.pairs, strict=True)}
    assert {pair["pair"]: pair["clean"] for pair in data_of(page)["pairs"]} == cleans


def test_what_a_user_writes_is_text(made_up: Callable[..., Study]) -> None:
    pair = StudyPair(name="0", attack="</script><b>", source=torch.zeros(1, 2, 2), refined=torch.ones(1, 2, 2))
    page = study_page(Study(title="<i>A & B</i>", pairs=[pair]))
    assert "<i>" not in page
    assert "&lt;i&gt;A &amp; B" in page
    assert data_of(page)["pairs"][0]["attack"] == "</script><b>"
    assert "1 pair of pictures" in page


def test_page_and_key_are_written_and_the_key_of_another_study_is_kept(
    made_up: Callable[..., Study], tmp_path: Path
) -> None:
    study, folder = made_up(), tmp_path / "new" / "study"
    assert write_study(study, folder) == folder / "study.html"
    assert (folder / "study.html").read_text(encoding="utf-8") == study_page(study)
    assert read_key(folder) == study.key
    write_study(made_up(title="Another title"), folder)
    with pytest.raises(InputError, match=f"holds study {study.identifier}, and this is .*: choose another folder"):
        write_study(made_up(seed=1), folder)
    assert read_key(folder).study == study.identifier
