//! Plots, as SVG on a light ground.

use std::fmt::Write as _;

use super::stats::Spread;

/// A row of bars for each name in the legend.
#[derive(Clone, Copy, Debug)]
pub struct Series<'a> {
    /// In the legend.
    pub name: &'a str,
    /// Of its bars or lines.
    pub colour: &'a str,
}

const WIDTH: f64 = 760.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 64.0;
const PLOT: f64 = 240.0;
const BOTTOM: f64 = 60.0;
const GREY: &str = "#555";

/// Bars with the quartiles as whiskers; `groups` hold one value for each series.
#[must_use]
pub fn bars(
    title: &str,
    unit: &str,
    series: &[Series<'_>],
    groups: &[(String, Vec<Option<Spread>>)],
) -> String {
    let values = groups.iter().flat_map(|(_, spreads)| spreads).flatten();
    let top = nice(values.map(|spread| spread.high).fold(0.0, f64::max));
    let mut svg = Svg::new(title, PLOT + TOP + BOTTOM);
    let drawn = |place: usize| {
        let mut of_series = groups.iter().map(|(_, spreads)| spreads.get(place));
        of_series.any(|spread| matches!(spread, Some(Some(_))))
    };
    let shown = series.iter().enumerate().filter(|(place, _)| drawn(*place));
    svg.legend(&shown.map(|(_, series)| *series).collect::<Vec<_>>());
    let y = |value: f64| TOP + PLOT * (1.0 - value / top);
    svg.rules(unit, top, TOP, PLOT);
    let share = (WIDTH - LEFT - RIGHT) / groups.len().max(1) as f64;
    for (number, (name, spreads)) in groups.iter().enumerate() {
        let from = LEFT + share * number as f64;
        svg.text(
            from + share / 2.0,
            TOP + PLOT + 22.0,
            "middle",
            12,
            "#222",
            name,
        );
        let present: Vec<(usize, Spread)> = spreads
            .iter()
            .enumerate()
            .filter_map(|(place, spread)| Some((place, (*spread)?)))
            .collect();
        let bar = (share * 0.8 / present.len().max(1) as f64).min(46.0);
        let start = from + (share - bar * present.len() as f64) / 2.0;
        for (place, (which, spread)) in present.into_iter().enumerate() {
            let x = start + bar * place as f64;
            let colour = series.get(which).map_or(GREY, |series| series.colour);
            let (middle, height) = (x + bar / 2.0, TOP + PLOT - y(spread.median));
            svg.rect((x + 1.0, y(spread.median)), (bar - 2.0, height), colour);
            svg.line(
                (middle, y(spread.low)),
                (middle, y(spread.high)),
                "#222",
                1.2,
            );
            svg.text(
                middle,
                y(spread.high) - 4.0,
                "middle",
                11,
                "#222",
                &label(spread.median),
            );
        }
    }
    svg.text(
        LEFT,
        TOP + PLOT + 46.0,
        "start",
        11,
        GREY,
        "bars: medians of the rounds; whiskers: quartiles",
    );
    svg.finish()
}

/// One panel of a histogram: its title, and the values of each series.
pub type Panel<'a> = (&'a str, Vec<(Series<'a>, &'a [f64])>);

/// Shares of values, over a logarithmic scale in microseconds; one panel under the other.
#[must_use]
pub fn histograms(title: &str, axis: &str, panels: &[Panel<'_>]) -> String {
    const PANEL: f64 = 150.0;
    const GAP: f64 = 56.0;
    /// Bins to a factor of ten.
    const BINS: f64 = 12.0;
    let all = || panels.iter().flat_map(|(_, series)| series);
    let values = || all().flat_map(|(_, values)| *values).filter(|v| **v > 0.0);
    let lowest = values().copied().fold(f64::INFINITY, f64::min).max(1.0);
    let highest = values().copied().fold(10.0, f64::max);
    let (first, last) = (lowest.log10().floor(), highest.log10().ceil());
    let count = ((last - first) * BINS) as usize;
    let height = TOP + panels.len() as f64 * (PANEL + GAP) + 20.0;
    let mut svg = Svg::new(title, height);
    if let Some((_, series)) = panels.first() {
        let names: Vec<Series<'_>> = series.iter().map(|(series, _)| *series).collect();
        svg.legend(&names);
    }
    let x = |bin: f64| LEFT + (WIDTH - LEFT - RIGHT) * bin / count.max(1) as f64;
    for (number, (name, series)) in panels.iter().enumerate() {
        let above = TOP + 14.0 + number as f64 * (PANEL + GAP);
        let shares: Vec<Vec<f64>> = series
            .iter()
            .map(|(_, values)| {
                let mut bins = vec![0.0; count + 1];
                for value in *values {
                    let bin = ((value.max(1.0).log10() - first) * BINS).clamp(0.0, count as f64);
                    if let Some(bin) = bins.get_mut(bin as usize) {
                        *bin += 100.0 / values.len() as f64;
                    }
                }
                bins
            })
            .collect();
        let top = nice(shares.iter().flatten().copied().fold(1.0, f64::max));
        svg.rules("% of messages", top, above, PANEL);
        svg.text(LEFT + 8.0, above - 4.0, "start", 13, "#222", name);
        for decade in 0..=(last - first) as usize {
            let place = x(decade as f64 * BINS);
            svg.line((place, above), (place, above + PANEL), "#e4e4e4", 1.0);
            let value = 10f64.powf(first + decade as f64);
            svg.text(
                place,
                above + PANEL + 16.0,
                "middle",
                11,
                GREY,
                &duration(value),
            );
        }
        for ((series, _), bins) in series.iter().zip(&shares) {
            let mut path = String::new();
            for (bin, share) in bins.iter().enumerate() {
                let y = above + PANEL * (1.0 - share / top);
                let letter = if bin == 0 { 'M' } else { 'L' };
                // Writing to a string does not fail.
                let _ = write!(
                    path,
                    "{letter}{:.1} {y:.1}H{:.1}",
                    x(bin as f64),
                    x(bin as f64 + 1.0).min(WIDTH - RIGHT)
                );
            }
            svg.path(&path, series.colour);
        }
    }
    svg.text(WIDTH / 2.0, height - 14.0, "middle", 12, GREY, axis);
    svg.finish()
}

/// The next round number up.
fn nice(value: f64) -> f64 {
    if value <= 0.0 {
        return 1.0;
    }
    let power = 10f64.powf(value.log10().floor());
    let steps = [1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0];
    let wanted = value * 1.05 / power;
    let step = steps.iter().copied().find(|step| *step >= wanted);
    power * step.unwrap_or(15.0)
}

fn label(value: f64) -> String {
    match value {
        v if v >= 10_000.0 => format!("{:.1}k", v / 1000.0),
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}

/// A round number without its zeros.
fn tick(value: f64) -> String {
    if value >= 10_000.0 {
        format!("{}k", value / 1000.0)
    } else {
        // Quarters of round numbers.
        format!("{}", (value * 1e4).round() / 1e4)
    }
}

fn duration(micros: f64) -> String {
    match micros {
        us if us >= 1e6 => format!("{:.0} s", us / 1e6),
        us if us >= 1e3 => format!("{:.0} ms", us / 1e3),
        us => format!("{us:.0} µs"),
    }
}

struct Svg {
    text: String,
}

impl Svg {
    fn new(title: &str, height: f64) -> Self {
        let mut svg = Self {
            text: format!(
                "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH:.0} {height:.0}' width='{WIDTH:.0}' \
                 height='{height:.0}' font-family='sans-serif'>\n<rect width='100%' height='100%' fill='#fff'/>\n"
            ),
        };
        svg.text(LEFT, 24.0, "start", 16, "#111", title);
        svg
    }

    fn legend(&mut self, series: &[Series<'_>]) {
        let mut x = LEFT;
        for Series { name, colour } in series {
            self.rect((x, 36.0), (12.0, 12.0), colour);
            self.text(x + 17.0, 46.5, "start", 12, "#222", name);
            x += 40.0 + name.chars().count() as f64 * 7.5;
        }
    }

    /// Four steps of a scale from nothing to `top`, and its unit.
    fn rules(&mut self, unit: &str, top: f64, above: f64, height: f64) {
        for step in 0..=4 {
            let y = above + height * (1.0 - f64::from(step) / 4.0);
            self.line((LEFT, y), (WIDTH - RIGHT, y), "#ddd", 1.0);
            let value = top * f64::from(step) / 4.0;
            self.text(LEFT - 6.0, y + 4.0, "end", 11, GREY, &tick(value));
        }
        let (x, y) = (16.0, above + height / 2.0);
        let unit = escape(unit);
        let _ = writeln!(
            self.text,
            "<text x='{x:.1}' y='{y:.1}' transform='rotate(-90 {x:.1} {y:.1})' text-anchor='middle' font-size='12' fill='{GREY}'>{unit}</text>"
        );
    }

    fn rect(&mut self, (x, y): (f64, f64), (width, height): (f64, f64), colour: &str) {
        let _ = writeln!(
            self.text,
            "<rect x='{x:.1}' y='{y:.1}' width='{width:.1}' height='{height:.1}' fill='{colour}'/>"
        );
    }

    fn line(&mut self, (x1, y1): (f64, f64), (x2, y2): (f64, f64), colour: &str, width: f64) {
        let _ = writeln!(
            self.text,
            "<line x1='{x1:.1}' y1='{y1:.1}' x2='{x2:.1}' y2='{y2:.1}' stroke='{colour}' stroke-width='{width}'/>"
        );
    }

    fn path(&mut self, path: &str, colour: &str) {
        let _ = writeln!(
            self.text,
            "<path d='{path}' fill='none' stroke='{colour}' stroke-width='1.8' stroke-linejoin='round'/>"
        );
    }

    fn text(&mut self, x: f64, y: f64, anchor: &str, size: u32, colour: &str, text: &str) {
        let text = escape(text);
        let _ = writeln!(
            self.text,
            "<text x='{x:.1}' y='{y:.1}' text-anchor='{anchor}' font-size='{size}' fill='{colour}'>{text}</text>"
        );
    }

    fn finish(mut self) -> String {
        self.text.push_str("</svg>\n");
        self.text
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERIES: [Series<'static>; 2] = [
        Series {
            name: "floor",
            colour: "#999",
        },
        Series {
            name: "xbosh & co",
            colour: "#159",
        },
    ];

    #[test]
    fn draws_bars_that_parse() {
        let spread = Spread::of(&[1.0, 2.0, 3.0]);
        let groups = [
            ("http".to_owned(), vec![spread, spread]),
            ("https".to_owned(), vec![None, spread]),
        ];
        let svg = bars("Login", "ms", &SERIES, &groups);
        let document = roxmltree::Document::parse(&svg).expect("well-formed");
        let bars = document
            .descendants()
            .filter(|node| node.has_tag_name("rect"));
        // The ground, two in the legend, three bars.
        assert_eq!(bars.count(), 6);
    }

    #[test]
    fn draws_histograms_that_parse() {
        let [one, two] = SERIES;
        let (low, high) = ([100.0, 120.0, 150.0], [0.0, 9000.0]);
        let panels: [Panel<'_>; 1] = [("lone", vec![(one, &low), (two, &high)])];
        let svg = histograms("Delay", "delay", &panels);
        assert!(roxmltree::Document::parse(&svg).is_ok(), "{svg}");
        assert!(svg.contains("10 ms"), "{svg}");
    }

    #[test]
    fn rounds_scales_up() {
        assert_eq!(nice(0.0), 1.0);
        assert_eq!(nice(97.0), 150.0);
        assert_eq!(nice(18_000.0), 20_000.0);
    }
}
