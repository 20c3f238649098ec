"""One self-contained page that asks, and the key to its answers: the same study gives the same bytes."""

from __future__ import annotations

import base64
import io
from importlib import resources
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from aureole.core.errors import InputError
from aureole.core.records import replace_text
from aureole.core.schema import to_json
from aureole.refine.study.pairs import FORMAT, KEY_NAME, PairKey, Study, StudyPair, levels, read_key

PAGE_NAME = "study.html"


def write_study(study: Study, folder: Path) -> Path:
    """Write ``study.html``, which goes to whoever takes part, and ``study.json``, the key, which does not.

    Args:
        study: what to ask.
        folder: made when it does not exist.

    Returns:
        The path of the page.

    Raises:
        InputError: the folder cannot be written, or holds the key of another study, whose answers would be lost.
    """
    folder, key = Path(folder), study.key
    if (folder / KEY_NAME).exists():
        old = read_key(folder)
        if old.study != key.study:
            raise InputError(f"{folder} holds study {old.study}, and this is {key.study}: choose another folder")
    replace_text(folder / KEY_NAME, to_json(key))
    replace_text(folder / PAGE_NAME, study_page(study))
    return folder / PAGE_NAME


def study_page(study: Study) -> str:
    """Return the page: it loads nothing, and does not say which picture is refined.

    A person sees one pair after the other, in a random order and on random sides, and says by mouse, touch or key in
    which picture the disturbance is easier to notice; the answers stay in the browser until they are saved as a file.

    Args:
        study: what to ask.

    Returns:
        HTML.

    Example:
        >>> from aureole.refine.study import Study, StudyPair
        >>> pair = StudyPair(name="3", attack="BIM", source=torch.zeros(1, 8, 8), refined=torch.ones(1, 8, 8))
        >>> "://" in study_page(Study(title="Pictures", pairs=[pair]))
        False
    """
    import jinja2

    template = resources.files("aureole.refine.study").joinpath("page.html.jinja").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    key = study.key
    pairs = [_pair(pair, names, study.show_clean) for pair, names in zip(study.pairs, key.pairs, strict=True)]
    pairs.sort(key=lambda pair: pair["pair"])
    data = {"format": FORMAT, "study": key.study, "pairs": pairs}
    return environment.from_string(template).render(
        title=study.title, data=data, num_pairs=len(pairs), show_clean=study.show_clean
    )


def _pair(pair: StudyPair, names: PairKey, show_clean: bool) -> dict[str, Any]:
    """Return what the page knows of a pair; its pictures stand in the order of their opaque names."""
    pictures = sorted([(names.source, pair.source), (names.refined, pair.refined)], key=lambda picture: picture[0])
    return {
        "pair": names.pair,
        "attack": pair.attack,
        "size": [pair.source.shape[2], pair.source.shape[1]],
        "pictures": [{"name": name, "address": address(image)} for name, image in pictures],
        "clean": address(pair.clean) if show_clean and pair.clean is not None else None,
    }


def address(image: Float[Tensor, "channels height width"]) -> str:
    """Return an image as a data address that holds an 8-bit PNG file, and nothing that says where it came from.

    Example:
        >>> address(torch.zeros(1, 2, 2))[:22]
        'data:image/png;base64,'
    """
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(levels(image)).save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
