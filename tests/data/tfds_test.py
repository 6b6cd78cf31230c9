"""A set of every awkward kind, written with TFDS's own writer."""

import io

import numpy as np
import pytest
import tensorflow_datasets as official
from PIL import Image

from amtml_jax.data import index, tfds
from amtml_jax.errors import UserError

RNG = np.random.default_rng(0)


def png(array, kind="PNG"):
  buffer = io.BytesIO()
  Image.fromarray(array).save(buffer, format=kind)
  return buffer.getvalue()


def written(folder, name, features, splits, supervised=None):
  """Writes examples as a set that plain `tfds.builder` finds by its name."""

  class Written(official.core.GeneratorBasedBuilder, skip_registration=True):
    VERSION = official.core.Version("1.0.0")
    # Read by DatasetInfo; TFDS would look for texts beside this test.
    pkg_dir_path = folder

    def _info(self):
      return official.core.DatasetInfo(
        builder=self,
        features=official.features.FeaturesDict(features),
        supervised_keys=supervised,
      )

    def _split_generators(self, dl_manager):
      return {split: iter(enumerate(rows)) for split, rows in splits.items()}

    def _generate_examples(self):
      raise NotImplementedError

  Written.name = name
  builder = Written(data_dir=folder)
  builder.download_and_prepare(file_format="array_record")
  return str(folder)


def features(shape=(None, None, 3), names=("cat", "dog"), **more):
  return {
    "image": official.features.Image(shape=shape),
    "label": official.features.ClassLabel(names=names),
    **more,
  }


def rows(images):
  return [{"image": png(x), "label": i % 2} for i, x in enumerate(images)]


def pictures(count, *shape):
  return list(RNG.integers(0, 256, (count, *shape), dtype=np.uint8))


def by_content(data):
  return sorted(
    (int(label), image.tobytes())
    for image, label in zip(data.image, data.label, strict=True)
  )


@pytest.mark.parametrize("channels", [1, 3])
def test_every_image_comes_back_with_its_label(tmp_path, monkeypatch, channels):
  shape = (6, 7) if channels == 1 else (6, 7, 3)
  images = pictures(11, *shape)
  folder = written(
    tmp_path,
    "eleven",
    features((6, 7, channels)),
    {"train": rows(images), "test": rows(images[:3])},
  )
  # Chunks of 4 images, the last one short.
  monkeypatch.setattr(index, "CHUNK", 4 * 6 * 7 * channels)
  data = tfds.load("train", folder=folder, name="eleven")
  assert data.image.shape == (11, 6, 7, channels)
  assert data.classes == ("cat", "dog")
  expected = sorted((i % 2, x.tobytes()) for i, x in enumerate(images))
  assert by_content(data) == expected
  assert len(tfds.load("test", folder=folder, name="eleven").label) == 3


def test_validation_stands_in_for_a_missing_test_split(tmp_path):
  images = pictures(5, 4, 4, 3)
  parts = {"train": rows(images), "validation": rows(images[:2])}
  folder = written(tmp_path, "valid", features(), parts)
  assert len(tfds.load("test", folder=folder, name="valid").label) == 2
  folder = written(tmp_path, "alone", features(), {"train": rows(images)})
  with pytest.raises(UserError, match="alone has no split for 'test', only tr"):
    tfds.load("test", folder=folder, name="alone")


def test_images_of_unequal_size(tmp_path):
  square, wide = np.zeros((4, 4, 3), np.uint8), np.zeros((4, 12, 3), np.uint8)
  square[:, :, 0] = [0, 100, 100, 200]
  wide[:, :4], wide[:, 4:8], wide[:, 8:] = 9, 60, 200
  folder = written(
    tmp_path, "mixed", features(), {"train": rows([square, wide])}
  )
  with pytest.raises(UserError, match=r"unequal size .*config.data.image_size"):
    tfds.load("train", folder=folder, name="mixed")
  data = tfds.load("train", folder=folder, name="mixed", image_size=2)
  assert data.image.shape == (2, 2, 2, 3)
  left, right = data.image[data.label == 0][0, 0, :, 0]
  # Antialiased bilinear from 4 to 2: a triangle of half-width 2 about 1.0
  # weighs the columns 3 : 3 : 1 (centres 0.5, 1.5, 2.5), by hand
  # (3·0 + 3·100 + 1·100) / 7 = 57.1 and its mirror image 1000 / 7 = 142.9.
  assert (left, right) == (57, 143)
  # The largest central square of the wide one is its middle third.
  assert np.unique(data.image[data.label == 1]).tolist() == [60]


def test_examples_are_read_by_rows(tmp_path):
  images = pictures(11, 6, 7, 3)
  folder = written(tmp_path, "eleven", features(), {"train": rows(images)})
  whole = tfds.load("train", folder=folder, name="eleven")
  found = tfds.examples("train", folder=folder, name="eleven")
  assert (len(found), found.shape) == (11, (6, 7, 3))
  for wanted in ([3], [10, 0, 5, 0, 0], list(range(11))):
    image, label = found.read(np.array(wanted))
    np.testing.assert_array_equal(image, whole.image[wanted])
    np.testing.assert_array_equal(label, whole.label[wanted])


def test_gray_jpeg_in_a_colour_set(tmp_path):
  gray = np.full((8, 8), 77, np.uint8)
  example = {"image": png(gray, "JPEG"), "label": 1}
  folder = written(tmp_path, "gray", features(), {"train": [example]})
  data = tfds.load("train", folder=folder, name="gray")
  assert data.image.shape == (1, 8, 8, 3)
  assert np.unique(data.image).tolist() == [77]


def test_the_sets_own_keys(tmp_path):
  kinds = {
    "picture": official.features.Image(shape=(2, 2, 1)),
    "image": official.features.Image(shape=(3, 3, 1)),
    "kind": official.features.ClassLabel(num_classes=3),
  }
  small, large = np.full((2, 2), 5, np.uint8), np.zeros((3, 3), np.uint8)
  example = {"picture": png(small), "image": png(large), "kind": 2}
  parts = {"train": [example]}
  folder = written(tmp_path, "own", kinds, parts, ("picture", "kind"))
  data = tfds.load("train", folder=folder, name="own")
  assert data.image.tolist() == np.full((1, 2, 2, 1), 5).tolist()
  assert data.label.tolist() == [2]
  assert data.classes == ("0", "1", "2")


def test_sets_that_are_no_image_classification(tmp_path):
  text = {"text": official.features.Text()}
  folder = written(tmp_path, "words", text, {"train": [{"text": "a"}]})
  with pytest.raises(
    UserError, match=r"no image classification.*\(its feat.*t"
  ):
    tfds.load("train", folder=folder, name="words")
  deep = features() | {
    "image": official.features.Image(shape=(2, 2, 1), dtype=np.uint16)
  }
  image = pictures(1, 2, 2)
  folder = written(tmp_path, "deep", deep, {"train": rows(image)})
  with pytest.raises(UserError, match="deep has uint16 images of 1 channels"):
    tfds.load("train", folder=folder, name="deep")
  hidden = [{"image": png(image[0]), "label": -1}]
  folder = written(tmp_path, "hidden", features(), {"train": hidden})
  with pytest.raises(UserError, match=r"hidden \(train\): labels run from -1"):
    tfds.load("train", folder=folder, name="hidden")


def test_damage(tmp_path):
  broken = [{"image": b"no picture", "label": 0}]
  folder = written(tmp_path, "broken", features(), {"train": broken})
  with pytest.raises(
    UserError, match=r"broken \(train\) has an image that can"
  ):
    tfds.load("train", folder=folder, name="broken")
  folder = written(
    tmp_path, "short", features(), {"train": rows(pictures(40, 8, 8, 3))}
  )
  (path,) = tmp_path.glob("short/*/*.array_record*")
  path.write_bytes(path.read_bytes()[:3000])
  with pytest.raises(UserError, match=r"short \(train\) cannot be read .*prep"):
    tfds.load("train", folder=folder, name="short")


def test_what_is_not_prepared(tmp_path):
  with pytest.raises(
    UserError, match=r"cifar10 is not.*run: amtml prepare cif"
  ):
    tfds.load("train", folder=str(tmp_path), name="cifar10")
  with pytest.raises(UserError, match="run: amtml prepare svhn_cropped"):
    tfds.load("train", folder=str(tmp_path), name="svhn")
  with pytest.raises(UserError, match="TFDS knows no set 'nothing'"):
    tfds.load("train", folder=str(tmp_path), name="nothing")
  with pytest.raises(UserError, match=r"TFDS cannot open 'cifar10:9.9.9'"):
    tfds.load("train", folder=str(tmp_path), name="cifar10:9.9.9")
  with pytest.raises(UserError, match=r"set's name; set --config.data.name"):
    tfds.load("train", folder=str(tmp_path))


def test_a_set_that_only_tensorflow_reads(tmp_path):
  parts = {"train": rows(pictures(2, 4, 4, 3))}
  folder = written(tmp_path, "other", features(), parts)
  (info,) = tmp_path.glob("other/1.0.0/dataset_info.json")
  info.write_text(info.read_text().replace("array_record", "tfrecord"))
  with pytest.raises(UserError, match=r"1.0.0 is in tfrecord, which only Tens"):
    tfds.load("train", folder=folder, name="other")
