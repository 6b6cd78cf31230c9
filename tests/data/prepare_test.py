"""Sets built from small archives of the real layout, read back by tfds."""

import gzip
import hashlib
import http.server
import io
import pathlib
import struct
import tarfile
import threading
import urllib.error
import urllib.request

import numpy as np
import pytest
import scipy.io
import tensorflow_datasets as official

from amtml_jax.data import idx, prepare, tfds
from amtml_jax.errors import UserError

RNG = np.random.default_rng(0)
DEBIAN = pathlib.Path(idx.FOLDER)


@pytest.fixture
def record(monkeypatch, tmp_path):
  """Writes an archive and records it as the one that TFDS knows."""

  def save(name, files):
    builder = prepare.builders()[name]
    infos = dict(builder.url_infos)
    for url, info in infos.items():
      if info.filename in files:
        data = files[info.filename]
        (tmp_path / info.filename).write_bytes(data)
        infos[url] = official.download.checksums.UrlInfo(
          size=official.core.utils.Size(len(data)),
          checksum=hashlib.sha256(data).hexdigest(),
          filename=info.filename,
        )
    monkeypatch.setattr(builder, "url_infos", infos)
    return str(tmp_path)

  return save


def packed_tar(files):
  buffer = io.BytesIO()
  with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
    for name, data in files.items():
      member = tarfile.TarInfo(name)
      member.size = len(data)
      tar.addfile(member, io.BytesIO(data))
  return buffer.getvalue()


def recorded(name, folder):
  return prepare.recorded(prepare.builders()[name](data_dir=folder))


def pairs(images, labels):
  return sorted(
    (int(label), np.ascontiguousarray(image).tobytes())
    for image, label in zip(images, labels, strict=True)
  )


def cifar10():
  """Two records a file: the label, then the red, green and blue planes."""
  planes = RNG.integers(0, 256, (12, 3, 32, 32), dtype=np.uint8)
  labels = np.arange(12, dtype=np.uint8) % 10
  names = [f"class {i}" for i in range(10)]
  prefix = "cifar-10-batches-bin/"
  stems = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
  files = {prefix + "batches.meta.txt": "\n".join([*names, ""]).encode()}
  for i, stem in enumerate(stems):
    files[f"{prefix}{stem}.bin"] = b"".join(
      bytes([labels[k]]) + planes[k].tobytes() for k in (2 * i, 2 * i + 1)
    )
  archive = {"cifar-10-binary.tar.gz": packed_tar(files)}
  return archive, planes.transpose(0, 2, 3, 1), labels, tuple(names)


def test_cifar10(record, tmp_path):
  archive, images, labels, names = cifar10()
  source, folder = record("cifar10", archive), str(tmp_path / "tfds")
  prepare.prepare("cifar10", folder=folder, manual_dir=source)
  train = tfds.load("train", folder=folder, name="cifar10")
  test = tfds.load("test", folder=folder, name="cifar10")
  assert train.classes == names
  assert pairs(train.image, train.label) == pairs(images[:10], labels[:10])
  assert pairs(test.image, test.label) == pairs(images[10:], labels[10:])
  # Plain TFDS reads it too, with the official keys.
  plain = official.data_source("cifar10", split="test", data_dir=folder)
  found = {example["id"]: example for example in plain}
  assert sorted(found) == [b"test_00000", b"test_00001"]
  np.testing.assert_array_equal(found[b"test_00001"]["image"], images[11])
  # Built once, it needs no archives any more.
  prepare.prepare("cifar10", folder=folder, manual_dir="/nowhere")


def test_cifar100_has_its_fine_labels(record, tmp_path):
  planes = RNG.integers(0, 256, (3, 3, 32, 32), dtype=np.uint8)
  coarse, fine = [1, 2, 3], [99, 0, 50]
  body = [
    bytes([c, f]) + x.tobytes()
    for c, f, x in zip(coarse, fine, planes, strict=True)
  ]
  prefix = "cifar-100-binary/"
  tar = {
    prefix + "coarse_label_names.txt": b"".join(
      b"c%d\n" % i for i in range(20)
    ),
    prefix + "fine_label_names.txt": b"".join(b"f%d\n" % i for i in range(100)),
    prefix + "train.bin": b"".join(body[:2]),
    prefix + "test.bin": body[2],
  }
  source = record("cifar100", {"cifar-100-binary.tar.gz": packed_tar(tar)})
  folder = str(tmp_path / "tfds")
  prepare.prepare("cifar100", folder=folder, manual_dir=source)
  data = tfds.load("train", folder=folder, name="cifar100")
  expected = pairs(planes[:2].transpose(0, 2, 3, 1), fine[:2])
  assert pairs(data.image, data.label) == expected
  assert data.classes[99] == "f99"


def test_svhn(record, tmp_path):
  images = RNG.integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
  labels = np.array([10, 1, 9, 10, 2])
  files = {}
  for name, part in (("train", slice(0, 3)), ("test", slice(3, 5))):
    buffer = io.BytesIO()
    content = {
      "X": np.moveaxis(images[part], 0, -1),
      "y": labels[part, None].astype(np.uint8),
    }
    scipy.io.savemat(buffer, content, do_compression=True)
    files[f"{name}_32x32.mat"] = buffer.getvalue()
  source, folder = record("svhn_cropped", files), str(tmp_path / "tfds")
  prepare.prepare("svhn", folder=folder, manual_dir=source)
  train = tfds.load("train", folder=folder, name="svhn")
  assert pairs(train.image, train.label) == pairs(images[:3], [0, 1, 9])
  test = tfds.load("test", folder=folder, name="svhn_cropped")
  assert pairs(test.image, test.label) == pairs(images[3:], [0, 2])


def fashion(mtime):
  """Four small files with a publisher's header, and the bare ones."""
  images = RNG.integers(0, 256, (6, 28, 28), dtype=np.uint8)
  labels = np.array([9, 0, 1, 2, 3, 4], np.uint8)
  published, bare = {}, {}
  for part, rows in (("train", slice(0, 4)), ("t10k", slice(4, 6))):
    for what, array in (("images-idx3", images), ("labels-idx1", labels)):
      array = array[rows]
      head = bytes([0, 0, 8, array.ndim])
      head += struct.pack(f">{array.ndim}I", *array.shape)
      bare_file = gzip.compress(head + array.tobytes(), mtime=0)
      stem = f"{part}-{what}-ubyte"
      bare[stem + ".gz"] = bare_file
      published[stem + ".gz"] = (
        b"\x1f\x8b\x08\x08"
        + struct.pack("<I", mtime[part])
        + b"\x00\x03"
        + stem.encode()
        + b"\x00"
        + bare_file[10:]
      )
  return published, bare, images, labels


@pytest.mark.parametrize("header", ["published", "bare", "mixed"])
def test_fashion_mnist_of_either_packer(record, tmp_path, header):
  published, bare, images, labels = fashion(prepare.STAMPS)
  source, folder = record("fashion_mnist", published), str(tmp_path / "tfds")
  for name, data in bare.items():
    if header == "bare" or (header == "mixed" and name.startswith("train")):
      (tmp_path / name).write_bytes(data)
  prepare.prepare("fashion_mnist", folder=folder, manual_dir=source)
  train = tfds.load("train", folder=folder, name="fashion_mnist")
  assert pairs(train.image, train.label) == pairs(images[:4], labels[:4])
  assert train.classes == idx.FASHION_MNIST
  test = tfds.load("test", folder=folder, name="fashion_mnist")
  assert pairs(test.image, test.label) == pairs(images[4:], labels[4:])


@pytest.mark.skipif(
  not DEBIAN.is_dir(), reason="Debian's dataset-fashion-mnist is not installed"
)
def test_debians_files_become_the_recorded_ones(tmp_path):
  files = recorded("fashion_mnist", tmp_path)
  assert len(files) == 4
  for name, digest in files.items():
    rebuilt = prepare.publisher_gzip(DEBIAN / name)
    assert hashlib.sha256(rebuilt).hexdigest() == digest


def test_recorded_checksums_are_those_of_tfds(tmp_path):
  # As https://www.cs.toronto.edu/~kriz/cifar.html and TFDS list them.
  cifar = recorded("cifar10", tmp_path)
  assert list(cifar) == ["cifar-10-binary.tar.gz"]
  assert cifar["cifar-10-binary.tar.gz"].startswith("c4a38c50a1bc5f3a1c5537f2")
  svhn = recorded("svhn_cropped", tmp_path)
  assert list(svhn) == ["train_32x32.mat", "test_32x32.mat"]
  assert svhn["train_32x32.mat"].startswith("435e94d69a87fde4fd4d7f3dd208dfc3")


def test_names_and_archives(record, tmp_path):
  with pytest.raises(
    UserError, match=r"'mnist'; known: cifar10.*_mnist, svhn$"
  ):
    prepare.prepare("mnist", folder=str(tmp_path))
  with pytest.raises(
    UserError, match=r"needs cifar-10-binary.tar.gz; there is none in /nowhere"
  ):
    prepare.prepare("cifar10", folder=str(tmp_path), manual_dir="/nowhere")
  for name in ("cifar-10-binary.tar.gz", "train-labels-idx1-ubyte.gz"):
    (tmp_path / name).write_bytes(b"something else")
  with pytest.raises(
    UserError, match=r"/cifar-10-binary.tar.gz is not the file that TFDS rec"
  ):
    prepare.prepare(
      "cifar10", folder=str(tmp_path / "tfds"), manual_dir=str(tmp_path)
    )
  assert not (tmp_path / "tfds" / "cifar10" / "3.0.2").exists()
  (tmp_path / "file").write_text("")
  source = record("cifar10", cifar10()[0])
  with pytest.raises(UserError, match=r"cannot build cifar10 in .*/file"):
    prepare.prepare("cifar10", folder=str(tmp_path / "file"), manual_dir=source)


def test_a_failure_leaves_nothing_that_looks_finished(
  record, tmp_path, monkeypatch
):
  source, folder = record("cifar10", cifar10()[0]), tmp_path / "tfds"
  png, left = prepare._png, [4]

  def full(image):
    left[0] -= 1
    if not left[0]:
      raise OSError(28, "No space left on device")
    return png(image)

  monkeypatch.setattr(prepare, "_png", full)
  with pytest.raises(UserError, match=r"cannot build cifar10.*No space left"):
    prepare.prepare("cifar10", folder=str(folder), manual_dir=source)
  assert [path.name for path in folder.glob("cifar10/*")] == []
  # What a kill leaves behind has another name.
  (folder / "cifar10" / "incomplete.ABC123_3.0.2").mkdir(parents=True)
  with pytest.raises(UserError, match="amtml prepare cifar10"):
    tfds.load("train", folder=str(folder), name="cifar10")
  monkeypatch.setattr(prepare, "_png", png)
  prepare.prepare("cifar10", folder=str(folder), manual_dir=source)
  data = tfds.load("train", folder=str(folder), name="cifar10")
  assert len(data.label) == 10


def test_an_empty_folder_of_the_right_name(record, tmp_path):
  source, folder = record("cifar10", cifar10()[0]), tmp_path / "tfds"
  (folder / "cifar10" / "3.0.2").mkdir(parents=True)
  with pytest.raises(UserError, match=r"3.0.2 is there but holds no finished"):
    prepare.prepare("cifar10", folder=str(folder), manual_dir=source)


@pytest.fixture
def server(monkeypatch, tmp_path):
  """Serves `tmp_path`/served on this machine alone, as CIFAR-10's address."""
  (tmp_path / "served").mkdir()

  class Quiet(http.server.SimpleHTTPRequestHandler):
    def __init__(self, *args):
      super().__init__(*args, directory=tmp_path / "served")

    def log_message(self, *args):
      pass

  running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
  threading.Thread(target=running.serve_forever, daemon=True).start()
  url = f"http://127.0.0.1:{running.server_port}/cifar-10-binary.tar.gz"
  archive, images, *_ = cifar10()
  (data,) = archive.values()
  builder = prepare.builders()["cifar10"]
  layout = builder._cifar_info.fget(builder)._replace(url=url)
  info = official.download.checksums.UrlInfo(
    size=official.core.utils.Size(len(data)),
    checksum=hashlib.sha256(data).hexdigest(),
    filename="cifar-10-binary.tar.gz",
  )
  monkeypatch.setattr(builder, "_cifar_info", layout)
  monkeypatch.setattr(builder, "url_infos", {url: info})
  monkeypatch.setenv("NO_PROXY", "127.0.0.1")
  yield tmp_path / "served" / "cifar-10-binary.tar.gz", data, images
  running.shutdown()
  running.server_close()


def test_a_fetched_archive(server, tmp_path):
  path, data, images = server
  path.write_bytes(data)
  prepare.prepare("cifar10", folder=str(tmp_path))
  loaded = tfds.load("test", folder=str(tmp_path), name="cifar10")
  assert sorted(x.tobytes() for x in loaded.image) == sorted(
    np.ascontiguousarray(x).tobytes() for x in images[10:]
  )


def test_a_fetch_that_fails(server, tmp_path, monkeypatch):
  path, data, _ = server
  folder = tmp_path / "tfds"
  with pytest.raises(UserError, match=r"cannot fetch http.*HTTP Error 404: "):
    prepare.prepare("cifar10", folder=str(folder))
  path.write_bytes(data[:-1])
  with pytest.raises(UserError, match=r"gz gave something else than TFDS rec"):
    prepare.prepare("cifar10", folder=str(folder))
  # Nothing is left that the next try could take for the archive.
  assert list((folder / "downloads").iterdir()) == []

  def unreachable(*args, **kwargs):
    raise urllib.error.URLError("Name or service not known")

  monkeypatch.setattr(urllib.request, "urlopen", unreachable)
  with pytest.raises(
    UserError, match=r"not known>\); try again, or put cifar-10.* --manual_dir"
  ):
    prepare.prepare("cifar10", folder=str(folder))
  # What was fetched before needs no network.
  (folder / "downloads" / path.name).write_bytes(data)
  prepare.prepare("cifar10", folder=str(folder))
