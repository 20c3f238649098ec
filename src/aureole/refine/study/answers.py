"""The answers of a study, and table 3.2 from them.

The thesis reports "the percentages of the choices averaged over the images" with a spread that it does not define; ours
is the standard deviation over the persons (n - 1 in its denominator), each person's percentage taken over the images.
The 95 % interval is Wilson's over all choices of an attack. It takes the choices as independent; those of one person,
and those about one image, are not quite, so it is rather too narrow.

Source: Thesis, section 3.4.5 and table 3.2.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from aureole.core.errors import InputError
from aureole.core.records import wilson_interval
from aureole.core.schema import from_values, read_object, shorten
from aureole.refine.study.pairs import FORMAT, KEY_NAME, PairKey, StudyKey


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What one person was shown and chose.

    Args:
        pair: opaque name of the pair.
        attack: the source attack.
        left: opaque name of the picture on the left.
        right: opaque name of the picture on the right.
        choice: the side where the disturbance was noticed more.
        milliseconds: from the picture's showing to the choice.
    """

    pair: str
    attack: str
    left: str
    right: str
    choice: Literal["left", "right"]
    milliseconds: float

    @property
    def chosen(self) -> str:
        """The opaque name of the chosen picture."""
        return self.left if self.choice == "left" else self.right


@dataclass(frozen=True, kw_only=True)
class Session:
    """The answers of one person, in the order in which the pairs were shown."""

    format: int
    study: str
    session: str
    answers: list[Answer]


@dataclass(frozen=True, kw_only=True)
class PerceptibilityRow:
    """How often the images of one attack, as they are or refined, were found the more disturbed of their pair.

    Args:
        attack: name of the source attack.
        kind: ``"source"`` for its own images, ``"refined"`` for the refined ones.
        share: of the choices for an image, averaged over the images, in [0, 1]; lower is less perceptible.
        spread: standard deviation over the persons; None for one person.
        interval: 95 % Wilson interval of the share of all choices.
        num_persons: who answered about this attack.
        num_images: pairs of this attack that were answered.
        num_choices: answers about this attack.
    """

    attack: str
    kind: Literal["source", "refined"]
    share: float
    spread: float | None
    interval: tuple[float, float]
    num_persons: int
    num_images: int
    num_choices: int


def read_session(path: Path, key: StudyKey, *, allow_incomplete: bool = False) -> Session:
    """Read and check the answers of one person.

    Args:
        path: a file that the page saved.
        key: of the study that was asked.
        allow_incomplete: whether answers may be missing.

    Returns:
        The session.

    Raises:
        InputError: the file is malformed, of another study, says what the page cannot have shown, or lacks answers.
    """
    path = Path(path)
    mend = "give the files that the page saved, as they are"
    values = read_object(path, "a file of answers", mend, field="format", version=FORMAT)
    if values.get("study") != key.study:
        got = shorten(values.get("study"))
        raise InputError(f"{path} answers study {got}, and this is {key.study!r}: give the answers to this study")
    try:
        session = from_values(Session, values)
        _check(session, key)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    missing = len(key.pairs) - len(session.answers)
    if missing and not allow_incomplete:
        raise InputError(
            f"{path} lacks {missing} of {len(key.pairs)} answers: leave the file out, or give --allow-incomplete"
        )
    return session


def _check(session: Session, key: StudyKey) -> None:
    if not session.session:
        raise InputError("field session must name the session; got an empty text")
    known, seen = {pair.pair: pair for pair in key.pairs}, set()
    for answer in session.answers:
        if answer.pair not in known:
            raise InputError(f"unknown pair {shorten(answer.pair)}: the study has no such pair; the file was edited")
        if answer.pair in seen:
            raise InputError(f"pair {answer.pair!r} is answered twice; the file was edited")
        seen.add(answer.pair)
        _check_answer(answer, known[answer.pair])


def _check_answer(answer: Answer, pair: PairKey) -> None:
    if {answer.left, answer.right} != {pair.source, pair.refined}:
        raise InputError(f"pair {answer.pair!r} was shown with pictures that it does not have; the file was edited")
    if answer.attack != pair.attack:
        raise InputError(
            f"pair {answer.pair!r} is of attack {pair.attack!r}; got {shorten(answer.attack)}: the file was edited"
        )
    if not 0 <= answer.milliseconds < float("inf"):
        raise InputError(f"milliseconds of pair {answer.pair!r} must be at least 0; got {answer.milliseconds}")


def answer_files(paths: Sequence[Path]) -> list[Path]:
    """Return the files of answers among files and folders; in a folder, all .json files but the key.

    Raises:
        InputError: a path does not exist, or a folder holds no such file.
    """
    files: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            found = sorted(file for file in path.glob("*.json") if file.name != KEY_NAME)
            if not found:
                raise InputError(f"no files of answers in {path}: looked for answers-*.json there")
            files += found
        elif path.exists():
            files.append(path)
        else:
            raise InputError(f"no file of answers at {path}: give what the page saved, or a folder of such files")
    if not files:
        raise InputError("answers of at least one person are needed; got none: give what the page saved")
    return files


def read_sessions(paths: Sequence[Path], key: StudyKey, *, allow_incomplete: bool = False) -> list[Session]:
    """Read the answers of several persons.

    Args:
        paths: files that the page saved, or folders of such files.
        key: of the study that was asked.
        allow_incomplete: whether answers may be missing.

    Returns:
        One session for each file that holds an answer.

    Raises:
        InputError: see :func:`read_session`; or the same session came twice, or nobody answered anything.
    """
    sessions: dict[str, tuple[Path, Session]] = {}
    for path in answer_files(paths):
        session = read_session(path, key, allow_incomplete=allow_incomplete)
        if session.session in sessions:
            raise InputError(f"{path} holds the same session as {sessions[session.session][0]}: give one of the two")
        sessions[session.session] = path, session
    found = [session for _, session in sessions.values() if session.answers]
    if not found:
        raise InputError("the files hold no answer at all: give the answers of at least one person")
    return found


def perceptibility(key: StudyKey, sessions: Sequence[Session]) -> list[PerceptibilityRow]:
    """Return table 3.2: for each attack, how often its own image was chosen, and how often the refined one.

    Args:
        key: of the study.
        sessions: its answers, as :func:`read_sessions` checked them.

    Returns:
        Two rows for each attack that somebody answered about, in the order of the study.

    Example:
        >>> pair = PairKey(pair="p", name="0", attack="BIM", source="a", refined="b")
        >>> answer = Answer(pair="p", attack="BIM", left="b", right="a", choice="right", milliseconds=900.0)
        >>> key = StudyKey(format=1, study="s", title="Pictures", pairs=[pair])
        >>> session = Session(format=1, study="s", session="1", answers=[answer])
        >>> [(row.kind, row.share) for row in perceptibility(key, [session])]
        [('source', 1.0), ('refined', 0.0)]

    Source:
        Thesis, table 3.2.
    """
    rows: list[PerceptibilityRow] = []
    for attack in dict.fromkeys(pair.attack for pair in key.pairs):
        sources = {pair.pair: pair.source for pair in key.pairs if pair.attack == attack}
        hits = [
            {answer.pair: answer.chosen == sources[answer.pair] for answer in session.answers if answer.pair in sources}
            for session in sessions
        ]
        hits = [of_person for of_person in hits if of_person]
        rows += [_row(attack, "source", hits), _row(attack, "refined", hits)] if hits else []
    return rows


def _row(attack: str, kind: Literal["source", "refined"], hits: Sequence[dict[str, bool]]) -> PerceptibilityRow:
    """Count one kind; ``hits``: for each person, pair -> whether the source's image was chosen."""
    chosen = [{pair: hit == (kind == "source") for pair, hit in of_person.items()} for of_person in hits]
    of_images: dict[str, list[bool]] = {}
    for of_person in chosen:
        for pair, hit in of_person.items():
            of_images.setdefault(pair, []).append(hit)
    of_persons = [statistics.fmean(of_person.values()) for of_person in chosen]
    num_choices = sum(map(len, chosen))
    return PerceptibilityRow(
        attack=attack,
        kind=kind,
        share=statistics.fmean(statistics.fmean(of_image) for of_image in of_images.values()),
        spread=statistics.stdev(of_persons) if len(of_persons) > 1 else None,
        interval=wilson_interval(sum(sum(of_person.values()) for of_person in chosen), num_choices),
        num_persons=len(chosen),
        num_images=len(of_images),
        num_choices=num_choices,
    )
