//! Plots as SVG, by hand: two axes, lines, and points with an interval. Colours follow the reader's light or dark theme; the
//! ground is painted too, so that a page with another theme of its own does not make them unreadable.

use std::fmt::Write as _;

/// The picture and what is around its area, in pixels.
const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 440.0;
const LEFT: f64 = 84.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 84.0;
const BOTTOM: f64 = 58.0;

/// How long a sample of a line is in the legend, and how wide a letter about is.
const SAMPLE: f64 = 26.0;
const LETTER: f64 = 7.2;

/// Half the width of the ends of an interval.
const CAP: f64 = 4.0;

const STYLE: &str = "\
.ground{fill:#ffffff}.grid{stroke:#d8dee4}.axis{stroke:#57606a}text{fill:#24292f}.quiet{fill:#57606a}\
.s0{stroke:#0969da;color:#0969da}.s1{stroke:#bc4c00;color:#bc4c00}.dot{fill:currentColor}.open{fill:#ffffff}\
@media(prefers-color-scheme:dark){\
.ground{fill:#0d1117}.grid{stroke:#30363d}.axis{stroke:#8b949e}text{fill:#e6edf3}.quiet{fill:#9198a1}\
.s0{stroke:#58a6ff;color:#58a6ff}.s1{stroke:#f0883e;color:#f0883e}.open{fill:#0d1117}}\
text{font:13px system-ui,sans-serif;stroke:none}.head{font-size:15px;font-weight:600}\
.line{fill:none;stroke-width:2}.dashed{stroke-dasharray:6 4}.grid,.axis{stroke-width:1}.bar{stroke-width:1.5}";

/// How a value becomes a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    Linear,
    Logarithmic,
}

pub struct Axis {
    pub label: String,
    pub scale: Scale,
    pub low: f64,
    pub high: f64,
    /// Where a line is drawn, and what stands beside it.
    pub ticks: Vec<(f64, String)>,
}

impl Axis {
    /// From 0 at the low end to 1 at the high one; what lies outside is put on the edge.
    fn place(&self, value: f64) -> f64 {
        let place = match self.scale {
            Scale::Linear => (value - self.low) / (self.high - self.low),
            Scale::Logarithmic => (value / self.low).ln() / (self.high / self.low).ln(),
        };
        // Nothing has no logarithm: it is below every edge.
        if place.is_nan() { 0.0 } else { place.clamp(0.0, 1.0) }
    }
}

pub enum Mark {
    Line {
        points: Vec<(f64, f64)>,
        is_dashed: bool,
    },
    /// A measured value with its interval.
    Measured {
        x: f64,
        y: f64,
        low: f64,
        high: f64,
    },
    /// Nothing was seen, so there is only a bound from above.
    Below {
        x: f64,
        high: f64,
    },
}

pub struct Series {
    pub name: String,
    pub marks: Vec<Mark>,
}

pub struct Plot {
    pub title: String,
    /// How the marks are to be read.
    pub legend: String,
    pub x: Axis,
    pub y: Axis,
    /// At most two: there are so many colours.
    pub series: Vec<Series>,
}

impl Plot {
    pub fn svg(&self) -> String {
        assert!(self.series.len() <= 2, "as many series as colours");
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" \
             role=\"img\">\n<title>{}</title>\n<style>{STYLE}</style>\n",
            escaped(&self.title)
        );
        element(&mut svg, format!("<rect class=\"ground\" width=\"{WIDTH}\" height=\"{HEIGHT}\"/>"));
        text(&mut svg, LEFT, 26.0, "head", "start", &self.title);
        text(&mut svg, LEFT, 70.0, "quiet", "start", &self.legend);
        self.axes(&mut svg);
        let mut at = LEFT;
        for (number, Series { name, marks }) in self.series.iter().enumerate() {
            element(&mut svg, format!("<g class=\"s{number}\">"));
            element(&mut svg, format!("<path class=\"line\" d=\"M{at:.1} 43H{:.1}\"/>", at + SAMPLE));
            text(&mut svg, at + SAMPLE + 6.0, 47.5, "", "start", name);
            at += SAMPLE + 30.0 + LETTER * name.chars().count() as f64;
            marks.iter().for_each(|mark| self.mark(&mut svg, mark));
            element(&mut svg, "</g>".to_owned());
        }
        svg.push_str("</svg>\n");
        svg
    }

    fn at(&self, x: f64, y: f64) -> (f64, f64) {
        let (width, height) = (WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM);
        (LEFT + width * self.x.place(x), TOP + height * (1.0 - self.y.place(y)))
    }

    fn axes(&self, svg: &mut String) {
        let (left, bottom) = self.at(self.x.low, self.y.low);
        let (right, top) = self.at(self.x.high, self.y.high);
        for (value, label) in &self.y.ticks {
            let (_, y) = self.at(self.x.low, *value);
            element(svg, format!("<path class=\"grid\" d=\"M{left:.1} {y:.1}H{right:.1}\"/>"));
            text(svg, left - 8.0, y + 4.5, "", "end", label);
        }
        for (value, label) in &self.x.ticks {
            let (x, _) = self.at(*value, self.y.low);
            element(svg, format!("<path class=\"grid\" d=\"M{x:.1} {top:.1}V{bottom:.1}\"/>"));
            text(svg, x, bottom + 19.0, "", "middle", label);
        }
        element(svg, format!("<path class=\"axis\" fill=\"none\" d=\"M{left:.1} {top:.1}V{bottom:.1}H{right:.1}\"/>"));
        text(svg, (left + right) / 2.0, bottom + 43.0, "", "middle", &self.x.label);
        let (x, y) = (18.0, (top + bottom) / 2.0);
        let label = escaped(&self.y.label);
        element(
            svg,
            format!("<text text-anchor=\"middle\" transform=\"translate({x:.1} {y:.1}) rotate(-90)\">{label}</text>"),
        );
    }

    fn mark(&self, svg: &mut String, mark: &Mark) {
        match mark {
            Mark::Line { points, is_dashed } => {
                let places: Vec<String> =
                    points.iter().map(|(x, y)| self.at(*x, *y)).map(|(x, y)| format!("{x:.1} {y:.1}")).collect();
                let class = if *is_dashed { "line dashed" } else { "line" };
                element(svg, format!("<path class=\"{class}\" d=\"M{}\"/>", places.join("L")));
            }
            Mark::Measured { x, y, low, high } => {
                let ((at, y), (_, low), (_, high)) = (self.at(*x, *y), self.at(*x, *low), self.at(*x, *high));
                let (left, right) = (at - CAP, at + CAP);
                element(
                    svg,
                    format!(
                        "<path class=\"bar\" d=\"M{at:.1} {low:.1}V{high:.1}M{left:.1} {low:.1}H{right:.1}M{left:.1} {high:.1}H{right:.1}\"/>"
                    ),
                );
                element(svg, format!("<circle class=\"dot\" cx=\"{at:.1}\" cy=\"{y:.1}\" r=\"3.5\"/>"));
            }
            Mark::Below { x, high } => {
                let (at, high) = self.at(*x, *high);
                let (left, right, tip) = (at - 6.0, at + 6.0, high + 10.0);
                element(
                    svg,
                    format!("<path class=\"open bar\" d=\"M{left:.1} {high:.1}H{right:.1}L{at:.1} {tip:.1}Z\"/>"),
                );
            }
        }
    }
}

fn element(svg: &mut String, element: String) {
    writeln!(svg, "{element}").expect("a String");
}

fn text(svg: &mut String, x: f64, y: f64, class: &str, anchor: &str, text: &str) {
    let (class, text) = (if class.is_empty() { String::new() } else { format!(" class=\"{class}\"") }, escaped(text));
    element(svg, format!("<text{class} x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>"));
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The numbers 1, 2 and 5 with zeros, from the greatest that is at most `low` to the least that is at least `high`.
pub fn round_numbers(low: f64, high: f64) -> Vec<f64> {
    let decades = low.log10().floor() as i32..=high.log10().ceil() as i32;
    let all: Vec<f64> = decades.flat_map(|decade| [1.0, 2.0, 5.0].map(|digit| digit * 10_f64.powi(decade))).collect();
    let from = all.iter().rposition(|it| *it <= low).unwrap_or(0);
    let to = all.iter().position(|it| *it >= high).unwrap_or(all.len() - 1).max(from + 1);
    all[from..=to.min(all.len() - 1)].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(scale: Scale, low: f64, high: f64) -> Axis {
        Axis { label: "a < b".to_owned(), scale, low, high, ticks: vec![(low, "low".to_owned())] }
    }

    #[test]
    fn values_lie_where_their_scale_puts_them() {
        assert_eq!([0.0, 5.0, 20.0].map(|value| axis(Scale::Linear, 0.0, 10.0).place(value)), [0.0, 0.5, 1.0]);
        let places = [0.0, 1.0, 10.0, 100.0].map(|value| axis(Scale::Logarithmic, 1.0, 100.0).place(value));
        assert_eq!(places, [0.0, 0.0, 0.5, 1.0]);
    }

    #[test]
    fn everything_that_is_asked_for_is_drawn() {
        let marks = vec![
            Mark::Line { points: vec![(0.0, 0.0), (1.0, 10.0)], is_dashed: true },
            Mark::Measured { x: 0.5, y: 5.0, low: 4.0, high: 6.0 },
            Mark::Below { x: 1.0, high: 5.0 },
        ];
        let (x, y) = (axis(Scale::Linear, 0.0, 1.0), axis(Scale::Linear, 0.0, 10.0));
        let series = vec![Series { name: "one".to_owned(), marks }];
        let svg = Plot { title: "T".to_owned(), legend: "L".to_owned(), x, y, series }.svg();
        for wanted in
            ["a &lt; b", "line dashed\" d=\"M84.0 382.0L736.0 84.0\"", "cx=\"410.0\" cy=\"233.0\"", "open bar"]
        {
            assert!(svg.contains(wanted), "{wanted} in {svg}");
        }
        assert!(svg.contains("prefers-color-scheme:dark"));
        assert_eq!(svg.matches("<g ").count(), svg.matches("</g>").count());
    }

    #[test]
    fn ticks_are_round_numbers_around_the_values() {
        assert_eq!(round_numbers(3.0, 45.0), [2.0, 5.0, 10.0, 20.0, 50.0]);
        assert_eq!(round_numbers(10.0, 10.0), [10.0, 20.0]);
    }
}
