"""User study of perceptibility: a page that asks in which of two pictures a person notices the disturbance more."""

from aureole.refine.study.answers import (
    Answer,
    PerceptibilityRow,
    Session,
    answer_files,
    perceptibility,
    read_session,
    read_sessions,
)
from aureole.refine.study.arrays import read_pairs
from aureole.refine.study.page import study_page, write_study
from aureole.refine.study.pairs import PairKey, Study, StudyKey, StudyPair, read_key

__all__ = [
    "Answer",
    "PairKey",
    "PerceptibilityRow",
    "Session",
    "Study",
    "StudyKey",
    "StudyPair",
    "answer_files",
    "perceptibility",
    "read_key",
    "read_pairs",
    "read_session",
    "read_sessions",
    "study_page",
    "write_study",
]
