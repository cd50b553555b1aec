//! Bar charts in SVG: a bar for each server, its range as a line, readable on light and dark
//! pages.

use std::fmt::Write;

use bench_stand::Samples;

use crate::goal::HUB;

/// One bar.
#[derive(Debug)]
pub struct Bar {
    pub name: String,
    pub samples: Samples,
}

/// Draws a chart; bars are given from the top.
pub fn chart(title: &str, unit: &str, bars: &[Bar]) -> String {
    let height = TOP + BAR_STEP * bars.len() + BOTTOM;
    let most = bars.iter().map(|bar| bar.samples.high()).fold(f64::MIN_POSITIVE, f64::max);
    let x_of = |value: f64| LEFT as f64 + value / most * (WIDTH - LEFT - RIGHT) as f64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         role=\"img\" aria-label=\"{title}\">\n<style>{STYLE}</style>\n\
         <text class=\"title\" x=\"8\" y=\"20\">{title}</text>\n\
         <text class=\"unit\" x=\"8\" y=\"38\">{unit}; line: lowest to highest round</text>\n"
    );
    for (place, bar) in bars.iter().enumerate() {
        let y = TOP + BAR_STEP * place;
        let (low, median, high) = (bar.samples.low(), bar.samples.median(), bar.samples.high());
        let class = match &*bar.name {
            name if name == HUB => "hub",
            name if name.starts_with("bare") => "limit",
            _ => "peer",
        };
        let middle = y + BAR_HEIGHT / 2;
        let _ = writeln!(
            svg,
            "<text class=\"name\" x=\"{}\" y=\"{}\">{}</text>\
             <rect class=\"{class}\" x=\"{LEFT}\" y=\"{y}\" width=\"{:.1}\" height=\"{BAR_HEIGHT}\"/>\
             <line x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{middle}\" y2=\"{middle}\"/>\
             <text class=\"value\" x=\"{:.1}\" y=\"{}\">{}</text>",
            LEFT - 8,
            y + 14,
            bar.name,
            x_of(median) - LEFT as f64,
            x_of(low),
            x_of(high),
            x_of(high) + 6.0,
            y + 14,
            number(median),
        );
    }
    svg.push_str("</svg>\n");
    svg
}

/// A number with as many digits as mean something.
pub fn number(value: f64) -> String {
    let digits = match value.abs() {
        1_000.0.. => return grouped(value),
        100.0.. => 0,
        10.0.. => 1,
        _ => 2,
    };
    format!("{value:.digits$}")
}

/// Three significant digits, in groups of three.
fn grouped(value: f64) -> String {
    let scale = 10_f64.powi(value.abs().log10() as i32 - 2);
    let digits = format!("{:.0}", (value / scale).round() * scale);
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

const WIDTH: usize = 760;
const LEFT: usize = 130;
const RIGHT: usize = 90;
const TOP: usize = 52;
const BOTTOM: usize = 8;
const BAR_STEP: usize = 26;
const BAR_HEIGHT: usize = 18;
const STYLE: &str = "text{font:13px system-ui,sans-serif;fill:#1f2328}.title{font-weight:600}\
    .unit{fill:#656d76;font-size:12px}.name{text-anchor:end}.hub{fill:#1f6feb}.limit{fill:#8c959f}\
    .peer{fill:#c4cad1}line{stroke:#1f2328;stroke-width:1.5}\
    @media(prefers-color-scheme:dark){text{fill:#e6edf3}.unit{fill:#9198a1}line{stroke:#e6edf3}\
    .hub{fill:#4493f8}.limit{fill:#9198a1}.peer{fill:#4c545d}}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        for (value, text) in [
            (0.0, "0.00"),
            (1.234, "1.23"),
            (12.34, "12.3"),
            (123.4, "123"),
            (1_234.0, "1,230"),
            (1_234_567.0, "1,230,000"),
        ] {
            assert_eq!(number(value), text);
        }
    }
}
