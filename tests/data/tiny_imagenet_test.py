"""Tiny-ImageNet from small zips of the real layout, read back by tfds."""

import io
import zipfile

import numpy as np
import pytest
import tensorflow_datasets as official
from PIL import Image

from amtml_jax.data import prepare, tfds, tiny_imagenet
from amtml_jax.errors import UserError

RNG = np.random.default_rng(0)
# Not in alphabetical order, as in the real file.
WNIDS = ("n02124075", "n01443537", "n04067472")
TOP = "tiny-imagenet-200/"
GRAY = f"{TOP}train/n01443537/images/n01443537_1.JPEG"
ANNOTATIONS = f"{TOP}val/val_annotations.txt"


def jpeg(*shape):
  buffer = io.BytesIO()
  array = RNG.integers(90, 160, shape, dtype=np.uint8)
  Image.fromarray(array).save(buffer, format="JPEG")
  return buffer.getvalue()


def decoded(data):
  return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


@pytest.fixture
def files():
  """The members of the archive: 2 training images a class, 4 of validation."""
  found = {
    f"{TOP}wnids.txt": "\n".join(WNIDS).encode() + b"\n",
    f"{TOP}words.txt": b"n00001740\tentity\n",
  }
  for wnid in WNIDS:
    folder = f"{TOP}train/{wnid}/"
    boxes = ""
    for i in range(2):
      name = f"{wnid}_{i}.JPEG"
      found[f"{folder}images/{name}"] = jpeg(64, 64, 3)
      boxes += f"{name}\t0\t0\t62\t63\n"
    found[f"{folder}{wnid}_boxes.txt"] = boxes.encode()
  found[GRAY] = jpeg(64, 64)
  lines = ""
  for i, label in enumerate((2, 0, 1, 2)):
    found[f"{TOP}val/images/val_{i}.JPEG"] = jpeg(64, 64, 3)
    lines += f"val_{i}.JPEG\t{WNIDS[label]}\t0\t32\t44\t62\n"
  found[ANNOTATIONS] = lines.encode()
  found[f"{TOP}test/images/test_0.JPEG"] = jpeg(64, 64, 3)
  return found


@pytest.fixture
def build(tmp_path):
  """Packs members, prepares the set and gives the folder where it then is."""

  def run(members):
    with zipfile.ZipFile(tmp_path / tiny_imagenet.ARCHIVE, "w") as file:
      for name, data in members.items():
        file.writestr(name, data)
    folder = str(tmp_path / "tfds")
    prepare.prepare("tiny_imagenet", folder=folder, manual_dir=str(tmp_path))
    return folder

  return run


def pairs(images, labels):
  return sorted(
    (int(label), np.ascontiguousarray(image).tobytes())
    for image, label in zip(images, labels, strict=True)
  )


def test_every_image_comes_back_with_its_label(files, build, tmp_path):
  folder = build(files)
  train = tfds.load("train", folder=folder, name="tiny_imagenet")
  assert train.image.shape == (6, 64, 64, 3)
  assert train.classes == WNIDS
  members = [
    f"{TOP}train/{wnid}/images/{wnid}_{i}.JPEG"
    for wnid in WNIDS
    for i in (0, 1)
  ]
  expected = pairs([decoded(files[m]) for m in members], [0, 0, 1, 1, 2, 2])
  assert pairs(train.image, train.label) == expected
  # Exactly one image is grey: three equal channels.
  (gray,) = (x for x in train.image if (x == x[..., :1]).all())
  np.testing.assert_array_equal(gray, decoded(files[GRAY]))
  # The validation images, by their annotations; none of the test's own.
  test = tfds.load("test", folder=folder, name="tiny_imagenet")
  images = [decoded(files[f"{TOP}val/images/val_{i}.JPEG"]) for i in range(4)]
  assert pairs(test.image, test.label) == pairs(images, [2, 0, 1, 2])
  # Plain TFDS reads it too.
  plain = official.data_source("tiny_imagenet", split="test", data_dir=folder)
  found = {example["id"]: example for example in plain}
  assert sorted(found) == [b"val_0", b"val_1", b"val_2", b"val_3"]
  np.testing.assert_array_equal(found[b"val_3"]["image"], images[3])
  # Built once, it needs no archive any more.
  prepare.prepare("tiny_imagenet", folder=folder, manual_dir="/nowhere")


def changed(name, data):
  return lambda files: {**files, TOP + name: data}


def lacking(name):
  return lambda files: {k: v for k, v in files.items() if k != TOP + name}


def appended(name, data):
  return lambda files: {**files, TOP + name: files[TOP + name] + data}


VAL = "val/val_annotations.txt"
FISH = "train/n01443537/images/n01443537_0.JPEG"
WRONG = {
  "no classes": (lacking("wnids.txt"), "there is no .*/wnids.txt in it"),
  "a class twice": (
    appended("wnids.txt", b"n01443537\n"),
    r"wnids.txt does not name two or more classes once each",
  ),
  "a class without images": (
    appended("wnids.txt", b"n00000001\n"),
    "n00000001 has no training image",
  ),
  "images of no class": (
    changed("train/n9/images/n9_0.JPEG", b""),
    "n9/images/n9_0.JPEG is of 'n9', which wnids.txt lacks",
  ),
  "no annotations": (lacking(VAL), "there is no .*/val_annotations.txt in it"),
  "an annotation too few": (
    changed("val/images/val_9.JPEG", b""),
    "val_annotations.txt has no line for .*/val_9.JPEG",
  ),
  "an annotation too many": (
    lacking("val/images/val_2.JPEG"),
    "has a line for .*/val_2.JPEG, which is not there",
  ),
  "an annotation twice": (
    appended(VAL, b"val_0.JPEG\tn01443537\t0\t0\t1\t1\n"),
    "val_annotations.txt names val_0.JPEG twice",
  ),
  "an annotation of no class": (
    changed(VAL, b"val_0.JPEG n01443537 0 0 1 1\n"),
    "line 1 of val/val_annotations.txt is of '', which wnids.txt lacks",
  ),
  "no image": (changed(FISH, b"a text"), "n01443537_0.JPEG is no image"),
  "half an image": (
    changed(FISH, jpeg(64, 64, 3)[:700]),
    r"n01443537_0.JPEG does not open \(image file is truncated",
  ),
  "another size": (
    changed(FISH, jpeg(32, 64, 3)),
    r"n01443537_0.JPEG has \(64, 32\) pixels, not \(64, 64\)",
  ),
}


@pytest.mark.parametrize(("change", "message"), WRONG.values(), ids=WRONG)
def test_another_archive_is_told(files, build, tmp_path, change, message):
  with pytest.raises(UserError) as caught:
    build(change(files))
  caught.match(f"^{tmp_path}/tiny-imagenet-200.zip is not Tiny-ImageNet: .*")
  caught.match(f"{message}.*; get it again from http://cs231n")
  assert "\n" not in str(caught.value)
  assert list(tmp_path.glob("tfds/tiny_imagenet/*")) == []
  # The right one is then built in the same place.
  build(files)


@pytest.mark.parametrize("damage", ["text", "half", "image", "names"])
def test_a_damaged_archive(files, tmp_path, damage):
  path = tmp_path / tiny_imagenet.ARCHIVE
  with zipfile.ZipFile(path, "w") as file:
    for name, data in files.items():
      file.writestr(name, data)
  whole = path.read_bytes()
  name = {"image": TOP + FISH, "names": f"{TOP}wnids.txt"}.get(damage)
  if name:
    # Stored as they are, so a byte of the member is a byte of the file.
    at = whole.index(files[name]) + len(files[name]) // 2
    bytes_ = bytearray(whole)
    bytes_[at] ^= 255
    path.write_bytes(bytes(bytes_))
  else:
    path.write_bytes(
      b"<html>" if damage == "text" else whole[: len(whole) // 2]
    )
  with pytest.raises(
    UserError,
    match=r"^/.*/tiny-imagenet-200.zip is damaged or no zip \((File|Bad C)",
  ):
    prepare.prepare(
      "tiny_imagenet", folder=str(tmp_path / "tfds"), manual_dir=str(tmp_path)
    )
  assert list(tmp_path.glob("tfds/tiny_imagenet/*")) == []


def test_where_there_is_no_archive(tmp_path):
  folder = str(tmp_path)
  with pytest.raises(
    UserError, match=r"not fetched; put tiny-.*\.zip \(http.*as --manual_dir"
  ):
    prepare.prepare("tiny_imagenet", folder=folder)
  with pytest.raises(
    UserError, match=r"needs tiny-imagenet-200.zip; there is none in /nowhere"
  ):
    prepare.prepare("tiny_imagenet", folder=folder, manual_dir="/nowhere")
  for name in ("tiny_imagenet", "tiny_imagenet:1.0.0"):
    with pytest.raises(
      UserError,
      match=rf"^{name} is not prepared in {folder}; run: amtml prepare tiny_im",
    ):
      tfds.load("train", folder=folder, name=name)
