"""Masks in a folder of their own, found by the names of their images."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from jaxtyping import Bool
from torch import Tensor

from aureole.core.errors import InputError
from aureole.data.pictures import read_mask
from aureole.data.tables import image_files


class MaskFiles:
    """The masks of a folder, each of which belongs to one image.

    The mask of ``images/train/ill/7.jpg`` is ``train/ill/7``, ``ill/7`` or ``7`` in the mask folder, with any suffix of
    an image.

    Args:
        folder: the mask folder.
        root: the folder of the images.
        dark: whether 0 marks, on a bright background.

    Raises:
        InputError: the folder does not exist or holds no image, or two masks have the same name.
    """

    def __init__(self, folder: Path, root: Path, dark: bool) -> None:
        self.folder, self.root, self.dark = folder, root.resolve(), dark
        if not folder.is_dir():
            raise InputError(f"mask_folder must be a folder; there is none at {folder}")
        self._files: dict[str, Path] = {}
        self._owner: dict[str, str] = {}
        for path in image_files(folder):
            key = path.relative_to(folder).with_suffix("").as_posix()
            if key in self._files:
                raise InputError(f"two masks have the same name: {self._files[key].name} and {path.name} in {folder}")
            self._files[key] = path
        if not self._files:
            raise InputError(f"mask_folder must hold masks, named as their images; {folder} holds no images")

    def mask(self, image: str | None, size: tuple[int, int], where: str) -> Bool[Tensor, "h w"] | None:
        """Return the mask of an image file; None if it has none.

        Args:
            image: path of the image, or its name alone.
            size: height and width of the image, in pixels.
            where: names the image in a message.

        Raises:
            InputError: the image has no name, its mask is unreadable or of another size, or belongs to another image
                too.
        """
        if image is None:
            raise InputError(f"{where} must have a file name to be found in {self.folder}; use a mask column instead")
        key = next((key for key in self._keys(Path(image)) if key in self._files), None)
        if key is None:
            return None
        owner = self._owner.setdefault(key, image)
        if owner != image:
            raise InputError(
                f"a mask must belong to one image; {self._files[key].name} is that of {owner} and of {image}: "
                "repeat the class folders in the mask folder"
            )
        value = {"path": str(self._files[key]), "bytes": None}
        return read_mask(value, size, f"{where} ({Path(image).name})", dark=self.dark)

    def _keys(self, image: Path) -> Iterator[str]:
        resolved = image.resolve()
        named = resolved.relative_to(self.root) if resolved.is_relative_to(self.root) else image
        parts = named.with_suffix("").parts
        yield from ("/".join(parts[start:]) for start in range(len(parts)))
