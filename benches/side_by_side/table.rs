//! Figures as a table.

/// The middle one; of an even number, the lower of the two in the middle.
pub fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get((sorted.len().max(1) - 1) / 2).copied().unwrap_or(f64::NAN)
}

/// Prints a row of a Markdown table for each contender. Behind a figure stands how many times the
/// first row's it is.
pub fn print(title: &str, columns: &[(&str, usize)], rows: &[(&str, Vec<f64>)]) {
    println!("\n{title}\n");
    let heads: Vec<_> = columns.iter().map(|(head, _)| *head).collect();
    println!("| | {} |", heads.join(" | "));
    println!("|---|{}", "---|".repeat(columns.len()));
    for (index, (name, figures)) in rows.iter().enumerate() {
        let cells = figures.iter().zip(columns).zip(&rows[0].1).map(|((figure, column), base)| {
            let digits = column.1;
            match (figure.is_nan(), index) {
                (true, _) => "-".to_owned(),
                (_, 0) => format!("{figure:.digits$}"),
                _ => format!("{figure:.digits$} (×{:.2})", figure / base),
            }
        });
        println!("| {name} | {} |", cells.collect::<Vec<_>>().join(" | "));
    }
}
