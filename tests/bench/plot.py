"""Charts as SVG, written by hand: bars in groups and lines. Readable on light and dark pages."""
import math
from html import escape

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 380, 74, 24, 52, 58
COLOURS = ("#2563eb", "#e07b00", "#2f9e44", "#9c36b5", "#c92a2a", "#0b7285")
STYLE = ("text{font:13px system-ui,sans-serif;fill:#222}.t{font-size:16px;font-weight:600}.s{font-size:12px}"
         ".g{stroke:#ddd;stroke-width:1}.a{stroke:#555;stroke-width:1.2}.l{fill:none;stroke-width:2.2}")


def short(x):
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(x) >= limit:
            return f"{x / limit:.3g}{unit}"
    return f"{x:.3g}"


class Scale:
    def __init__(self, lo, hi, start, end, log, zero=False):
        self.log = log and lo > 0
        if self.log:
            lo, hi = lo * 0.9, hi * 1.1
            self.lo, self.hi = math.log10(lo), math.log10(hi)
        else:
            pad = (hi - lo or abs(hi) or 1) * 0.06
            self.lo, self.hi = (0 if zero else lo - pad), hi + pad
        self.start, self.end = start, end

    def __call__(self, x):
        x = math.log10(x) if self.log else x
        return self.start + (x - self.lo) / (self.hi - self.lo) * (self.end - self.start)

    def ticks(self):
        if not self.log:
            step = 10 ** math.floor(math.log10((self.hi - self.lo) / 4))
            step *= next(m for m in (1, 2, 5, 10) if (self.hi - self.lo) / (step * m) <= 6)
            first = math.ceil(self.lo / step - 1e-9)
            return [i * step for i in range(first, int(math.floor(self.hi / step + 1e-9)) + 1)]
        wide = self.hi - self.lo > 2.6
        out = [m * 10.0 ** e for e in range(math.floor(self.lo), math.ceil(self.hi) + 1) for m in ((1,) if wide else (1, 2, 5))]
        return [x for x in out if self.lo <= math.log10(x) <= self.hi]


class Svg:
    def __init__(self, title):
        self.parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
                      f'height="{HEIGHT}" role="img"><title>{escape(title)}</title><style>{STYLE}</style>'
                      f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>']
        self.text(LEFT, 24, title, "t", "start")

    def text(self, x, y, text, cls="", anchor="middle", more=""):
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" class="{cls}" text-anchor="{anchor}"{more}>{escape(str(text))}</text>')

    def line(self, x1, y1, x2, y2, cls):
        self.parts.append(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{cls}"/>')

    def legend(self, names):
        x = LEFT
        for i, name in enumerate(names):
            self.parts.append(f'<rect x="{x}" y="34" width="12" height="12" fill="{COLOURS[i % len(COLOURS)]}"/>')
            self.text(x + 17, 44.5, name, "s", "start")
            x += 34 + 7.2 * len(name)

    def y_axis(self, scale, label):
        for t in scale.ticks():
            self.line(LEFT, scale(t), WIDTH - RIGHT, scale(t), "g")
            self.text(LEFT - 8, scale(t) + 4, short(t), "s", "end")
        self.line(LEFT, TOP, LEFT, HEIGHT - BOTTOM, "a")
        self.line(LEFT, HEIGHT - BOTTOM, WIDTH - RIGHT, HEIGHT - BOTTOM, "a")
        middle = (TOP + HEIGHT - BOTTOM) / 2
        self.text(18, middle, label, "", "middle", f' transform="rotate(-90 18 {middle:.1f})"')

    def done(self):
        return "\n".join(self.parts + ["</svg>", ""])


def bars(title, groups, label):
    """groups: name -> {series: value}."""
    svg, names = Svg(title), []
    for values in groups.values():
        names += [n for n in values if n not in names]
    svg.legend(names)
    y = Scale(0, max(v for g in groups.values() for v in g.values()), HEIGHT - BOTTOM, TOP + 8, False, zero=True)
    svg.y_axis(y, label)
    wide = (WIDTH - LEFT - RIGHT) / len(groups)
    bar = min(46, wide * 0.8 / len(names))
    for g, (group, values) in enumerate(groups.items()):
        start = LEFT + wide * (g + 0.5) - bar * len(values) / 2
        for i, (name, value) in enumerate(values.items()):
            x, top = start + i * bar, y(value)
            svg.parts.append(f'<rect x="{x + 1:.1f}" y="{top:.1f}" width="{bar - 2:.1f}" height="{HEIGHT - BOTTOM - top:.1f}" '
                             f'fill="{COLOURS[names.index(name) % len(COLOURS)]}"/>')
            svg.text(x + bar / 2, top - 4, short(value), "s")
        svg.text(LEFT + wide * (g + 0.5), HEIGHT - BOTTOM + 19, group)
    return svg.done()


def lines(title, x_label, y_label, series, log=False, log_x=False):
    """series: name -> [(x, y)]."""
    svg, points = Svg(title), [p for s in series.values() for p in s]
    svg.legend(series)
    x = Scale(min(p[0] for p in points), max(p[0] for p in points), LEFT, WIDTH - RIGHT, log_x)
    y = Scale(min(p[1] for p in points), max(p[1] for p in points), HEIGHT - BOTTOM, TOP + 8, log, zero=not log)
    svg.y_axis(y, y_label)
    for t in x.ticks():
        svg.line(x(t), HEIGHT - BOTTOM, x(t), HEIGHT - BOTTOM + 5, "a")
        svg.text(x(t), HEIGHT - BOTTOM + 19, short(t), "s")
    svg.text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 14, x_label)
    for i, values in enumerate(series.values()):
        colour = COLOURS[i % len(COLOURS)]
        path = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in sorted(values))
        svg.parts.append(f'<polyline points="{path}" class="l" stroke="{colour}"/>')
        svg.parts += [f'<circle cx="{x(a):.1f}" cy="{y(b):.1f}" r="3.2" fill="{colour}"/>' for a, b in values]
    return svg.done()
