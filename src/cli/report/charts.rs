//! Charts: drawn without words, which stand beside them in the page's own size on any screen.

use std::{cmp::Reverse, fmt::Write};

use hdrhistogram::Histogram;
use maud::{Markup, html};

use super::{
    timeline::Bins,
    units::{moment, number, round},
};

/// So many kinds have a colour of their own; the others share one.
const COLOURED: usize = 7;
/// How high a chart is, in its own units.
const HEIGHT: u64 = 1000;
/// So many marks are on an axis of time at most, besides the first.
const TICKS: u64 = 7;

/// A kind over time.
#[derive(Debug)]
pub struct Series {
    /// What it is called.
    pub name: String,
    /// One count a bin.
    pub counts: Vec<u64>,
    /// How many there are together.
    pub count: u64,
    /// Its colour in the page.
    pub colour: usize,
}

/// The kinds as a chart has them: those with the most first, and what has no colour left as one.
pub fn series(all: Vec<(String, Vec<u64>)>) -> Vec<Series> {
    let counted = all.into_iter().map(|(name, counts)| {
        let count = counts.iter().sum();
        Series { name, counts, count, colour: 0 }
    });
    let mut all: Vec<_> = counted.collect();
    all.sort_by(|a, b| (Reverse(a.count), &a.name).cmp(&(Reverse(b.count), &b.name)));
    if all.len() > COLOURED + 1 {
        let rest = all.split_off(COLOURED);
        let mut counts = vec![0; rest[0].counts.len()];
        for one in &rest {
            counts.iter_mut().zip(&one.counts).for_each(|(sum, count)| *sum += count);
        }
        let (name, count) = (format!("{} others", rest.len()), counts.iter().sum());
        all.push(Series { name, counts, count, colour: 0 });
    }
    all.iter_mut().enumerate().for_each(|(at, it)| it.colour = at);
    all
}

/// Moments on an axis: how far along in percent, and what they are.
pub fn ticks(origin: u64, length: u64) -> Vec<(String, String)> {
    let least = length.div_ceil(TICKS).max(1);
    let power = 10_u64.pow(least.ilog10());
    let step = [1, 2, 5].map(|by| power.saturating_mul(by)).into_iter().find(|it| *it >= least);
    let step = step.unwrap_or(power.saturating_mul(10));
    let first = origin.div_ceil(step);
    let moments = (0..2 * TICKS).map(|at| first.saturating_add(at).saturating_mul(step));
    moments
        .take_while(|at| at.saturating_sub(origin) <= length)
        .map(|at| (percent(at - origin, length), moment(at, step)))
        .collect()
}

/// How far along, for a style.
pub fn percent(part: u64, whole: u64) -> String {
    format!("{:.2}%", (100.0 * part as f64 / whole.max(1) as f64).min(100.0))
}

/// Counts over time, one kind above the other.
pub fn over_time<K>(
    id: &str,
    title: &str,
    bins: &Bins<K>,
    series: &[Series],
    marks: &[(u64, usize)],
) -> Markup {
    let sums: Vec<u64> =
        (0..bins.count).map(|at| series.iter().map(|it| it.counts[at]).sum()).collect();
    let most = sums.iter().copied().max().unwrap_or(0).max(1);
    let scaled =
        |count: u64| HEIGHT - (u128::from(count) * u128::from(HEIGHT) / u128::from(most)) as u64;
    let mut below = vec![0; bins.count];
    let mut paths = Vec::new();
    for one in series {
        let above: Vec<u64> = below.iter().zip(&one.counts).map(|(sum, it)| sum + it).collect();
        let to_heights = |counts: &[u64]| counts.iter().map(|it| scaled(*it)).collect::<Vec<_>>();
        paths.push((one.colour, steps(&to_heights(&above), &to_heights(&below))));
        below = above;
    }
    let width = round(bins.width);
    let names: Vec<_> = series.iter().map(|it| format!("{} {}", it.name, it.count)).collect();
    let desc = format!("{}; at most {most} in {width}", names.join(", "));
    let (title_id, desc_id) = (format!("{id}-title"), format!("{id}-desc"));
    let left =
        |time: u64| format!("left:{}", percent(time.saturating_sub(bins.origin), bins.length()));
    // Where one is close to the one before, its line is enough.
    let has_room = |at: usize| {
        let before = at.checked_sub(1).map(|before| marks[before].0);
        before.is_none_or(|before| marks[at].0.saturating_sub(before) > bins.length() / 30)
    };
    html! {
        figure.chart id=(id) {
            figcaption { h3 { (title) } p.unit { "exits in each " (width) } }
            (legend(series))
            div.plot {
                div.scale aria-hidden="true" {
                    span { (number(most)) } span { (number(most / 2)) } span { "0" }
                }
                div.area {
                    svg viewBox=(format!("0 0 {} {HEIGHT}", bins.count)) preserveAspectRatio="none"
                        role="img" aria-labelledby=(format!("{title_id} {desc_id}")) {
                        title id=(title_id) { (title) }
                        desc id=(desc_id) { (desc) }
                        @for (colour, path) in &paths {
                            path class=(format!("s{colour}")) d=(path) {}
                        }
                        g.bins { @for (at, sum) in sums.iter().enumerate().filter(|it| *it.1 > 0) {
                            rect x=(at) width="1" height=(HEIGHT) {
                                title { (bin(bins, series, at, *sum)) }
                            }
                        } }
                    }
                    @for (at, (time, number)) in marks.iter().enumerate() {
                        span.mark style=(left(*time)) aria-hidden="true" {
                            @if has_room(at) { (number) }
                        }
                    }
                }
                (axis(bins.origin, bins.length()))
            }
            p.readout aria-hidden="true" {}
        }
    }
}

/// What is in a bin.
fn bin<K>(bins: &Bins<K>, series: &[Series], at: usize, sum: u64) -> String {
    let there = series.iter().filter(|it| it.counts[at] > 0);
    let each: Vec<_> = there.map(|it| format!("{} {}", it.name, number(it.counts[at]))).collect();
    format!("{}: {} ({})", moment(bins.begins(at), bins.width), number(sum), each.join(", "))
}

/// The moments under a chart; those near its ends stay beneath it.
pub fn axis(origin: u64, length: u64) -> Markup {
    let ticks = ticks(origin, length);
    // On a small screen every other one is enough.
    let is_more = |at: usize| ticks.len() > 5 && at % 2 == 1;
    let class = |at, left: &str| match left.trim_end_matches('%').parse().unwrap_or(50.0) {
        _ if is_more(at) => "more",
        0.0..5.0 => "begins",
        95.0.. => "ends",
        _ => "",
    };
    html! {
        div.axis aria-hidden="true" { @for (at, (left, text)) in ticks.iter().enumerate() {
            span class=(class(at, left)) style=(format!("left:{left}")) { (text) }
        } }
    }
}

fn legend(series: &[Series]) -> Markup {
    html! {
        ul.legend { @for one in series {
            li data-colour=(one.colour) { i class=(format!("k{}", one.colour)) {} (one.name) }
        } }
    }
}

/// Coordinates of a path that goes along the tops of bins, one unit wide each, and back along their
/// bottoms.
fn steps(tops: &[u64], bottoms: &[u64]) -> String {
    let mut path = String::new();
    let mut at = 0;
    // Only where there is something, so that nothing is drawn as a line.
    while at < tops.len() {
        if tops[at] == bottoms[at] {
            at += 1;
            continue;
        }
        let end = (at..tops.len()).find(|it| tops[*it] == bottoms[*it]).unwrap_or(tops.len());
        let _ = write!(path, "M{at} {}", tops[at]);
        for x in at..end {
            if x > at && tops[x] != tops[x - 1] {
                let _ = write!(path, "V{}", tops[x]);
            }
            let _ = write!(path, "H{}", x + 1);
        }
        for x in (at..end).rev() {
            let _ = write!(path, "V{}H{x}", bottoms[x]);
        }
        path.push('Z');
        at = end;
    }
    path
}

/// The decades of time that a histogram shows, from 100 ns to 10 s, in bins of a quarter of one.
pub const DECADES: usize = 8;
const BINS: usize = 4 * DECADES;
const LOWEST: f64 = 1e2;

/// How often handling took how long: heights grow with the logarithm of the count.
pub fn latencies(title: &str, histogram: &Histogram<u64>) -> Markup {
    const TOP: u64 = 100;
    let mut counts = [0_u64; BINS];
    for value in histogram.iter_recorded() {
        let decades = (value.value_iterated_to().max(1) as f64 / LOWEST).log10();
        counts[((4.0 * decades).max(0.0) as usize).min(BINS - 1)] += value.count_at_value();
    }
    let most = counts.iter().copied().max().unwrap_or(0).max(1);
    let height = |count: u64| match count {
        0 => 0,
        _ => (TOP as f64 * (count as f64).ln_1p() / (most as f64).ln_1p()) as u64,
    };
    let tops = counts.map(|count| TOP - height(count).min(TOP));
    html! {
        svg.latency viewBox=(format!("0 0 {BINS} {TOP}")) preserveAspectRatio="none"
            role="img" aria-label=(title) {
            @for decade in 1..DECADES {
                path.grid d=(format!("M{} 0V{TOP}", 4 * decade)) {}
            }
            path.s0 d=(steps(&tops, &[TOP; BINS])) {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_share_a_colour_and_nothing_is_lost() {
        let all = (0..12).map(|kind| (format!("k{kind:02}"), vec![kind, 1]));
        let series = series(all.collect());
        assert_eq!(series.len(), COLOURED + 1);
        assert_eq!((series[0].name.as_str(), series[COLOURED].name.as_str()), ("k11", "5 others"));
        assert_eq!(series.iter().map(|it| it.count).sum::<u64>(), (0..12).sum::<u64>() + 12);
    }

    #[test]
    fn an_axis_has_round_moments() {
        let texts = |origin, length| ticks(origin, length).into_iter().map(|it| it.1);
        assert!(texts(0, 12_000_000_000).eq(["0 s", "2 s", "4 s", "6 s", "8 s", "10 s", "12 s"]));
        assert!(texts(1_500_000, 1_000_000).eq(["1.6 ms", "1.8 ms", "2.0 ms", "2.2 ms", "2.4 ms"]));
        for (origin, length) in [(0, 0), (0, 1), (u64::MAX, 0), (0, u64::MAX), (u64::MAX, u64::MAX)]
        {
            assert!(ticks(origin, length).len() <= 2 * TICKS as usize, "{origin} {length}");
        }
    }

    #[test]
    fn a_path_goes_round_what_there_is() {
        assert_eq!(steps(&[5, 5, 9, 3], &[9, 9, 9, 9]), "M0 5H1H2V9H1V9H0ZM3 3H4V9H3Z");
        assert_eq!(steps(&[9, 9], &[9, 9]), "");
    }
}
