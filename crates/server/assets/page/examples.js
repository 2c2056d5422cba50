// Programs to begin with, by language. The first is the one that a page opens with. They need nothing but the language.

const file = (name, ...lines) => ({ name, content: `${lines.join("\n")}\n` });

export const EXAMPLES = {
  python: [
    {
      title: "Hello",
      files: [
        file(
          "main.py",
          "import platform",
          "",
          'print("Hello from a microVM!")',
          'print(f"Python {platform.python_version()} on {platform.system()}")',
        ),
      ],
    },
    {
      title: "Output as it comes",
      files: [
        file(
          "main.py",
          "import time",
          "",
          "for percent in range(0, 101, 4):",
          '    bar = "█" * (percent // 4)',
          '    print(f"\\r\\x1b[32m{bar:░<25}\\x1b[0m {percent:3} %", end="", flush=True)',
          "    time.sleep(0.1)",
          'print("\\nDone.")',
        ),
      ],
    },
    {
      title: "A picture",
      files: [
        file(
          "main.py",
          "from png import write",
          "",
          "WIDTH, HEIGHT, DEPTH = 180, 120, 32",
          "",
          "def colour(x, y):",
          "    c = complex(3.2 * x / WIDTH - 2.3, 2.2 * y / HEIGHT - 1.1)",
          "    z, steps = 0, 0",
          "    while abs(z) <= 2 and steps < DEPTH:",
          "        z, steps = z * z + c, steps + 1",
          "    heat = 0 if steps == DEPTH else steps / DEPTH",
          "    return int(255 * heat ** 0.4), int(200 * heat), int(90 + 60 * heat)",
          "",
          "rows = [[colour(x, y) for x in range(WIDTH)] for y in range(HEIGHT)]",
          'write("mandelbrot.png", rows)',
          'print("mandelbrot.png:", WIDTH, "×", HEIGHT)',
        ),
        file(
          "png.py",
          '"""Writes pictures without any library."""',
          "",
          "import struct",
          "import zlib",
          "",
          "def write(name, rows):",
          '    """A PNG of rows of (red, green, blue)."""',
          '    pixels = b"".join(b"\\0" + bytes(part for pixel in row for part in pixel) for row in rows)',
          "    def chunk(kind, data):",
          "        checksum = zlib.crc32(kind + data)",
          '        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)',
          '    head = struct.pack(">IIBBBBB", len(rows[0]), len(rows), 8, 2, 0, 0, 0)',
          '    with open(name, "wb") as file:',
          '        file.write(b"\\x89PNG\\r\\n\\x1a\\n" + chunk(b"IHDR", head))',
          '        file.write(chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b""))',
        ),
      ],
    },
    {
      title: "Several inputs",
      files: [
        file(
          "main.py",
          "import sys",
          "",
          "numbers = [int(word) for word in sys.stdin.read().split()]",
          'print("sum:", sum(numbers), " largest:", max(numbers))',
        ),
      ],
      stdin: ["3 1 4 1 5\n", "2 7 1 8\n"],
    },
  ],
};

/** What a language without examples begins with. */
export const nothing = (main) => ({ title: "Empty", files: [{ name: main, content: "" }] });
