"""The page in a real browser: three persons, one with the keyboard, one with a mouse, one with a phone."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aureole.core.records import wilson_interval
from aureole.refine.study import Study, perceptibility, read_sessions, write_study
from aureole.refine.study.page import address

COUNT = "document.getElementById('count').textContent"


class Person:
    """Someone in front of the page who can see which picture is the source's."""

    def __init__(self, browser: Any, study: Study, page: Path) -> None:
        self.browser, self.chosen = browser, []
        self.sources = {address(pair.source): pair.attack for pair in study.pairs}
        browser.open(page)

    def see(self) -> tuple[str, str]:
        """Return the side of the source's picture, and the attack, once the page takes an answer."""
        time.sleep(0.26)
        code = "['left', 'right'].map(side => document.querySelector(`#${side} img`).src)"
        shown = self.browser.value(code)
        (side,) = (side for side, picture in zip(("left", "right"), shown, strict=True) if picture in self.sources)
        return side, self.sources[shown[0 if side == "left" else 1]]

    def answer(self, act: Callable[[str], None], likes_source: Callable[[str], bool]) -> None:
        """Answer one pair; ``likes_source`` says for an attack whether to choose the source's picture."""
        side, attack = self.see()
        other = {"left": "right", "right": "left"}[side]
        self.chosen.append((attack, likes_source(attack)))
        act(side if likes_source(attack) else other)

    def save(self, folder: Path, act: Callable[[str], None]) -> dict[str, Any]:
        """Save the answers as a file, and return what it holds."""
        name = self.browser.value("document.getElementById('save').download")
        act("save")
        deadline = time.monotonic() + 30
        while not (folder / name).exists() or not (folder / name).read_text():
            assert time.monotonic() < deadline, "the browser saved nothing"
            time.sleep(0.02)
        return json.loads((folder / name).read_text())


def _by_keyboard(browser: Any, study: Study, page: Path, folder: Path) -> dict[str, Any]:
    """Answer with arrows and digits, go back once, and load the page again in the middle."""
    person, names = Person(browser, study, page), {"left": ("ArrowLeft", "1"), "right": ("ArrowRight", "2")}

    def press(side: str) -> None:
        browser.key(names[side][len(person.chosen) % 2])

    browser.key("Enter")  # the start has the focus
    person.answer(press, lambda attack: True)
    person.answer(press, lambda attack: False)
    browser.key("Backspace")
    assert browser.value(COUNT) == "2 of 6"
    person.chosen.pop()
    person.answer(press, lambda attack: True)
    before = person.see(), browser.value("document.querySelector('#left img').src")
    browser.reload()
    assert browser.value(COUNT) == "3 of 6"
    assert (person.see(), browser.value("document.querySelector('#left img').src")) == before
    while len(person.chosen) < 6:
        person.answer(press, lambda attack: True)
    assert browser.value("document.activeElement.id") == "thanks"
    browser.value("document.getElementById('save').focus()")
    saved = person.save(folder, lambda name: browser.key("Enter"))
    assert all(answer["milliseconds"] >= 250 for answer in saved["answers"])
    return saved


def _by_mouse(browser: Any, study: Study, page: Path, folder: Path) -> dict[str, Any]:
    """Find the sources of BIM and the refined of PGD, go back from the end, and save twice."""
    person = Person(browser, study, page)
    assert browser.value("document.getElementById('thanks').textContent") == "Thank you"  # the first is remembered
    browser.click("another")
    browser.click("start")
    assert browser.value("document.getElementById('back').disabled")
    while len(person.chosen) < 6:
        person.answer(browser.click, lambda attack: attack == "BIM")
    browser.click("again")
    assert browser.value(COUNT) == "6 of 6"
    person.chosen.pop()
    person.answer(browser.click, lambda attack: attack == "BIM")
    text = browser.value("document.getElementById('copy').value")
    saved = person.save(folder, browser.click)
    assert json.loads(text) == saved
    return saved


def _by_touch(browser: Any, study: Study, page: Path, folder: Path) -> dict[str, Any]:
    """Answer with a thumb on a phone's screen, stop, go on, and find the refined pictures always."""
    browser.screen(390, 844, phone=True, dark=True, ratio=2)
    person = Person(browser, study, page)
    browser.tap("another")
    browser.tap("start")
    person.answer(browser.tap, lambda attack: False)
    sides = "['left', 'right'].map(id => document.getElementById(id).getBoundingClientRect().toJSON())"
    for box in browser.value(sides):
        assert min(box["width"], box["height"]) > 120
        assert 0 <= box["left"] < box["right"] <= 390
    assert browser.value("document.documentElement.scrollWidth") == 390
    browser.tap("stop")
    assert browser.value("document.getElementById('thanks').textContent") == "You have answered 1 of 6"
    browser.tap("again")
    while len(person.chosen) < 6:
        person.answer(browser.tap, lambda attack: False)
    return person.save(folder, browser.tap)


def test_three_persons_answer_and_their_files_give_the_table(
    browser: Any, made_up: Callable[..., Study], tmp_path: Path
) -> None:
    study, folder = made_up(), tmp_path / "answers"
    page = write_study(study, tmp_path / "study")
    browser.screen(1280, 800)
    saved = [way(browser, study, page, folder) for way in (_by_keyboard, _by_mouse, _by_touch)]
    assert len({values["session"] for values in saved}) == 3
    names = {f"answers-{study.identifier}-{values['session']}.json" for values in saved}
    assert {path.name for path in folder.iterdir()} == names
    shown = [[(answer["pair"], answer["left"]) for answer in values["answers"]] for values in saved]
    assert shown[0] != shown[1] != shown[2] != shown[0]
    rows = perceptibility(study.key, read_sessions([folder], study.key))
    counts = [(row.attack, row.kind, round(row.share * row.num_choices), row.num_choices) for row in rows]
    assert counts == [
        ("BIM", "source", 6, 9),
        ("BIM", "refined", 3, 9),
        ("PGD", "source", 3, 9),
        ("PGD", "refined", 6, 9),
    ]
    assert rows[0].interval == wilson_interval(6, 9)
    assert rows[0].spread == pytest.approx((1 / 3) ** 0.5)  # of 1, 1, 0
    _assert_quiet(browser)


def _assert_quiet(browser: Any) -> None:
    """No exception, no complaint of the browser, and nothing asked of a network."""
    wrong = [e for e in browser.events if e["method"] in ("Runtime.exceptionThrown", "Log.entryAdded")]
    assert wrong == []
    urls = [e["params"]["request"]["url"] for e in browser.events if e["method"] == "Network.requestWillBeSent"]
    assert urls
    assert all(url.startswith(("file:", "data:", "blob:")) for url in urls)


def test_each_key_means_its_side_and_a_double_click_is_one_answer(
    browser: Any, made_up: Callable[..., Study], tmp_path: Path
) -> None:
    browser.open(write_study(made_up(seed=7), tmp_path))
    browser.key("ArrowLeft")  # means nothing before the start
    browser.click("start")
    for name in ("1", "2", "ArrowLeft", "ArrowRight"):
        time.sleep(0.26)
        browser.key(name)
    assert browser.value("state.answers.map(answer => answer.choice)") == ["left", "right", "left", "right"]
    time.sleep(0.26)
    assert browser.value("at('left').click(), at('left').click(), state.answers.length") == 5
    _assert_quiet(browser)


def test_order_and_sides_are_random_and_follow_from_the_session(
    browser: Any, made_up: Callable[..., Study], tmp_path: Path
) -> None:
    page = write_study(made_up(num_images=4), tmp_path)
    browser.open(page)
    code = """Array.from({length: 400}, () => fresh().session).map(s => plan(s).map(
        ({pair, shown}) => [study.pairs.indexOf(pair), pair.pictures.indexOf(shown[0])]))"""
    plans = browser.value(code)
    for place in range(8):
        here = [plan[place] for plan in plans]
        assert all(25 <= sum(index == pair for index, _ in here) <= 80 for pair in range(8))  # 50 expected
        assert 150 <= sum(side for _, side in here) <= 250
    assert all(sorted(index for index, _ in plan) == list(range(8)) for plan in plans)
    again = browser.value("['a', 'a', 'b'].map(c => JSON.stringify(plan(c.repeat(32))))")
    assert again[0] == again[1] != again[2]


def test_without_storage_the_page_still_works_and_says_so(
    browser: Any, made_up: Callable[..., Study], tmp_path: Path
) -> None:
    study = made_up(num_images=1, show_clean=True, seed=5)
    page = write_study(study, tmp_path)
    blocked = "Object.defineProperty(window, 'localStorage', {get() { throw new DOMException('denied'); }})"
    script = browser.send("Page.addScriptToEvaluateOnNewDocument", source=blocked)["identifier"]
    try:
        browser.screen(1280, 800)
        person = Person(browser, study, page)
        assert browser.value("document.getElementById('forgetful').hidden") is False
        browser.click("start")
        cleans = [address(pair.clean) for pair in study.pairs]
        for _ in range(2):
            person.answer(browser.click, lambda attack: True)
            assert browser.value("document.getElementById('clean').src") in cleans
        saved = person.save(tmp_path / "answers", browser.click)
    finally:
        browser.send("Page.removeScriptToEvaluateOnNewDocument", identifier=script)
    assert len(saved["answers"]) == 2
    assert read_sessions([tmp_path / "answers"], study.key)
    _assert_quiet(browser)
