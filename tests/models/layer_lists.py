"""Parameters counted layer by layer in plain Python, without the package.

Written from the papers' tables and the definitions that the models' files name.
`TOTALS[name](classes)` is for RGB images; their size does not matter.
"""


def conv(a, b, k, groups=1, bias=False):
  return k * k * a * b // groups + (b if bias else 0)


def norm(*channels):
  return 2 * sum(channels)


def conv_norm(a, b, k, groups=1, bias=False):
  return conv(a, b, k, groups, bias) + norm(b)


def dense(a, b):
  return a * b + b


def vgg(*plan):
  pairs = zip((3, *plan[:-1]), plan, strict=True)
  body = sum(conv_norm(a, b, 3, bias=True) for a, b in pairs)
  return lambda classes: body + dense(plan[-1], classes)


def alexnet(classes):
  body = conv(3, 64, 11, bias=True) + conv(64, 192, 5, bias=True)
  body += conv(192, 384, 3, bias=True) + conv(384, 256, 3, bias=True)
  return body + conv(256, 256, 3, bias=True) + dense(256, classes)


def residual(counts, widths, stem, stem_size=3, inner=None, groups=1):
  """Norm after every convolution, those of the shortcuts too."""

  def total(classes):
    result, a = conv_norm(3, stem, stem_size), stem
    for i, (count, b) in enumerate(zip(counts, widths, strict=True)):
      for block in range(count):
        if inner:
          m = inner[i]
          result += conv_norm(a, m, 1) + conv_norm(m, m, 3, groups)
          result += conv_norm(m, b, 1)
        else:
          result += conv_norm(a, b, 3) + conv_norm(b, b, 3)
        if block == 0 and (i > 0 or a != b):
          result += conv_norm(a, b, 1)
        a = b
    return result + dense(a, classes)

  return total


def preactivated(counts, widths, stem, inner=None, last_norm=False):
  """Norm before every convolution but the stem's and the shortcuts'."""

  def total(classes):
    result, a = conv(3, stem, 3), stem
    for i, (count, b) in enumerate(zip(counts, widths, strict=True)):
      for block in range(count):
        if inner:
          m = inner[i]
          result += norm(a, m, m) + conv(a, m, 1) + conv(m, m, 3)
          result += conv(m, b, 1)
        else:
          result += norm(a, b) + conv(a, b, 3) + conv(b, b, 3)
        if block == 0 and (i > 0 or a != b):
          result += conv(a, b, 1)
        a = b
    return result + (norm(a) if last_norm else 0) + dense(a, classes)

  return total


def wide(depth, k):
  n = (depth - 4) // 6
  return preactivated((n, n, n), (16 * k, 32 * k, 64 * k), 16, last_norm=True)


def densenet(layers, k):
  def total(classes):
    a = 2 * k
    result = conv(3, a, 3)
    for stage, count in enumerate(layers):
      if stage:
        result += norm(a) + conv(a, a // 2, 1)
        a //= 2
      for _ in range(count):
        result += norm(a) + conv(a, 4 * k, 1) + norm(4 * k) + conv(4 * k, k, 3)
        a += k
    return result + norm(a) + dense(a, classes)

  return total


def googlenet(classes):
  # The paper's table 1, rows 3a to 5b.
  rows = """
     64  96 128 16  32  32
    128 128 192 32  96  64
    192  96 208 16  48  64
    160 112 224 24  64  64
    128 128 256 24  64  64
    112 144 288 32  64  64
    256 160 320 32 128 128
    256 160 320 32 128 128
    384 192 384 48 128 128
  """

  def layer(a, b, k):
    return conv_norm(a, b, k, bias=True)

  result, a = layer(3, 192, 3), 192
  for row in rows.strip().splitlines():
    one, before3, three, before5, five, pool = map(int, row.split())
    result += layer(a, one, 1) + layer(a, pool, 1)
    result += layer(a, before3, 1) + layer(before3, three, 3)
    result += layer(a, before5, 1) + layer(before5, five, 3)
    result += layer(five, five, 3)
    a = one + three + five + pool
  return result + dense(a, classes)


def dpn26(classes):
  result, a = conv_norm(3, 64, 3), 64
  stages = ((96, 256, 16), (192, 512, 32), (384, 1024, 24), (768, 2048, 128))
  for m, b, k in stages:
    first = b + 2 * k  # the channels that the first of two blocks ends with
    result += conv_norm(a, b + k, 1)
    for c in (a, first):
      result += conv_norm(c, m, 1) + conv_norm(m, m, 3, 32)
      result += conv_norm(m, b + k, 1)
    a = first + k
  return result + dense(a, classes)


def mobilenetv2(classes):
  # The paper's table 2: t, c, n.
  rows = ((1, 16, 1), (6, 24, 2), (6, 32, 3), (6, 64, 4), (6, 96, 3))
  rows += ((6, 160, 3), (6, 320, 1))
  result, a = conv_norm(3, 32, 3), 32
  for t, c, n in rows:
    for _ in range(n):
      m = t * a
      result += conv_norm(m, m, 3, m) + conv_norm(m, c, 1)
      if t > 1:
        result += conv_norm(a, m, 1)
      a = c
  return result + conv_norm(320, 1280, 1) + dense(1280, classes)


def shufflenetv2(classes):
  result, a = conv_norm(3, 24, 3), 24
  for c, more in ((116, 3), (232, 7), (464, 3)):
    h = c // 2
    result += conv_norm(a, a, 3, a) + conv_norm(a, h, 1)
    result += conv_norm(a, h, 1) + conv_norm(h, h, 3, h) + conv_norm(h, h, 1)
    result += more * (2 * conv_norm(h, h, 1) + conv_norm(h, h, 3, h))
    a = c
  return result + conv_norm(464, 1024, 1) + dense(1024, classes)


BASIC = {"widths": (64, 128, 256, 512), "stem": 64}
DEEP = {
  "widths": (256, 512, 1024, 2048),
  "stem": 64,
  "inner": (64, 128, 256, 512),
}


def resnets(stem_size):
  return (
    residual((2, 2, 2, 2), **BASIC, stem_size=stem_size),
    residual((3, 4, 6, 3), **BASIC, stem_size=stem_size),
    residual((3, 4, 6, 3), **DEEP, stem_size=stem_size),
    residual((3, 4, 23, 3), **DEEP, stem_size=stem_size),
  )


TOTALS = {
  "alexnet": alexnet,
  "densenet121": densenet((6, 12, 24, 16), 32),
  # Depth 100: the stem, the head, two transitions, 3·16 layers of two.
  "densenet_bc_100_12": densenet((16, 16, 16), 12),
  "dpn26": dpn26,
  "googlenet": googlenet,
  "mobilenetv2": mobilenetv2,
  "preact_resnet18": preactivated((2, 2, 2, 2), **BASIC),
  "preact_resnet50": preactivated((3, 4, 6, 3), **DEEP),
  "resnet8x4": residual((1, 1, 1), (64, 128, 256), 32),
  "resnet32x4": residual((5, 5, 5), (64, 128, 256), 32),
  "resnext29_2x64d": residual(
    (3, 3, 3), (256, 512, 1024), 64, 1, (128, 256, 512), 2
  ),
  "resnext29_4x64d": residual(
    (3, 3, 3), (512, 1024, 2048), 64, 1, (256, 512, 1024), 4
  ),
  "shufflenetv2": shufflenetv2,
  "vgg11": vgg(64, 128, *[256] * 2, *[512] * 4),
  "vgg13": vgg(64, 64, 128, 128, *[256] * 2, *[512] * 4),
  "vgg16": vgg(64, 64, 128, 128, *[256] * 3, *[512] * 6),
  "vgg19": vgg(64, 64, 128, 128, *[256] * 4, *[512] * 8),
  "wrn16_2": wide(16, 2),
  "wrn28_2": wide(28, 2),
  "wrn40_2": wide(40, 2),
  "wrn28_4": wide(28, 4),
}
for suffix, size in (("", 3), ("_imagenet", 7)):
  for depth, total in zip((18, 34, 50, 101), resnets(size), strict=True):
    TOTALS[f"resnet{depth}{suffix}"] = total
