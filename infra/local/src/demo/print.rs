//! How the demo shows invoices and usage: plain text, at most 100 columns, no colours.

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};
use rust_decimal::Decimal;
use wharfage::domain::figures::GB_BYTES;
use wharfage::domain::invoice::{Basis, Invoice, Line};
use wharfage::domain::money::{Currency, to_major};

/// Lines of a plot.
const PLOT_HEIGHT: u64 = 4;
/// A column's cell by how many eighths of it are filled.
const EIGHTHS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Bytes of a MiB.
const MIB_BYTES: u64 = 1 << 20;

/// What is stored and moved on a day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DayFigures {
    /// `2026-01-15`.
    pub date: String,
    /// The most that was stored.
    pub peak_stored_bytes: u64,
    /// Sent and received.
    pub moved_bytes: u64,
}

/// Bytes as MiB with two places.
pub(super) fn mib(bytes: u64) -> String {
    let mib = Decimal::from(bytes) / Decimal::from(MIB_BYTES);
    format!("{mib:.2} MiB")
}

/// A line of the timeline, broken at words so that it fits into 100 columns, the rest under its text.
pub(super) fn timeline(time: &str, text: &str) -> String {
    const WIDTH: usize = 100;
    let indent = " ".repeat(time.chars().count() + 2);
    let mut lines = vec![format!("{time} ")];
    for word in text.split(' ') {
        let last = lines
            .last_mut()
            .filter(|last| last.chars().count() + 1 + word.chars().count() <= WIDTH);
        match last {
            Some(last) => {
                last.push(' ');
                last.push_str(word);
            }
            None => lines.push(format!("{indent}{word}")),
        }
    }
    lines.join("\n")
}

/// An amount with its currency.
pub(super) fn money(amount_minor: i64, currency: Currency) -> String {
    format!("{} {}", to_major(amount_minor, currency), currency.code())
}

/// An invoice as a table, and under it the figures that each line was computed from.
pub(super) fn invoice(invoice: &Invoice) -> String {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header([
        "",
        "component",
        "from – to",
        "quantity",
        "rate",
        &format!("amount ({})", invoice.currency.code()),
    ]);
    let mut figures = Vec::new();
    for (position, line) in (1..).zip(&invoice.lines) {
        let (component, quantity, rate, origin) = explain(line);
        table.add_row([
            format!("{position}"),
            component.into(),
            format!("{} – {}", line.from, line.to),
            quantity,
            rate,
            to_major(line.amount_minor, invoice.currency).to_string(),
        ]);
        figures.push(format!(
            "  {position}  {}, version {} of the plan\n     {origin}",
            line.text, line.plan_version
        ));
    }
    table.add_row([
        "",
        "total",
        "",
        "",
        "",
        &to_major(invoice.amount_minor, invoice.currency).to_string(),
    ]);
    for column in table.column_iter_mut().skip(3) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let paid = match invoice.paid_at {
        Some(at) => format!("paid on {}", &at.to_string()[..10]),
        None => "not paid".into(),
    };
    format!(
        "Invoice {}, issued on {}, due on {}, {paid}\n{table}\n{}\n",
        invoice.number,
        &invoice.issued_at.to_string()[..10],
        invoice.due_on,
        figures.join("\n"),
    )
}

/// Component, quantity, rate, and the figures behind them.
fn explain(line: &Line) -> (&'static str, String, String, String) {
    match &line.basis {
        Basis::Recurring => (
            "month",
            "1 month".into(),
            to_major_rate(line.amount_minor),
            "the plan's price of a month, in advance".into(),
        ),
        Basis::Prorated {
            hours,
            hours_of_period,
        } => (
            "part of a month",
            format!("{hours} of {hours_of_period} hours"),
            String::new(),
            format!("{hours} of {hours_of_period} hours of the plan's price"),
        ),
        Basis::Storage(storage) => {
            let hours = Decimal::from(storage.hours.max(1));
            let average = decimal(storage.overage_byte_hours) / Decimal::from(GB_BYTES) / hours;
            (
                "storage",
                format!("{average:.6} GB months"),
                storage.price_per_gb_month.to_string(),
                format!(
                    "{} byte hours stored - {} included = {} above, over {} hours of 2^30 bytes",
                    storage.stored_byte_hours,
                    storage.included_byte_hours,
                    storage.overage_byte_hours,
                    storage.hours
                ),
            )
        }
        Basis::Traffic(traffic) => {
            let gb = Decimal::from(traffic.overage_bytes) / Decimal::from(GB_BYTES);
            (
                "traffic",
                format!("{gb:.6} GB"),
                traffic.price_per_gb.to_string(),
                format!(
                    "{} bytes sent - {} included = {} above",
                    traffic.bytes_sent, traffic.included_bytes, traffic.overage_bytes
                ),
            )
        }
    }
}

fn to_major_rate(amount_minor: i64) -> String {
    Decimal::new(amount_minor, 2).to_string()
}

fn decimal(number: u128) -> Decimal {
    i128::try_from(number)
        .ok()
        .and_then(|number| Decimal::try_from_i128_with_scale(number, 0).ok())
        .unwrap_or(Decimal::MAX)
}

/// A column per day: how high it stands, under its title, over the days of the month on which the bars stand.
pub(super) fn plot(title: &str, days: &[DayFigures], bytes_of: fn(&DayFigures) -> u64) -> String {
    let data: Vec<u64> = days.iter().map(bytes_of).collect();
    let most = data.iter().copied().max().unwrap_or(0);
    // Rounded up: what is little is still seen.
    let eighths = |bytes: u64| (bytes * PLOT_HEIGHT * 8).div_ceil(most.max(1));
    let mut lines = vec![format!("{title} (highest day: {})", mib(most))];
    for below in (0..PLOT_HEIGHT).rev() {
        let filled = |bytes: u64| eighths(bytes).saturating_sub(below * 8).min(8);
        let cells = data.iter().map(|bytes| EIGHTHS[filled(*bytes) as usize]);
        let line: String = cells.collect();
        lines.push(line.trim_end().to_owned());
    }
    lines.push(axis(days));
    lines.push(String::new());
    lines.join("\n")
}

/// `╵` and the date under the first day and under each first of a month.
fn axis(days: &[DayFigures]) -> String {
    let mut axis = String::new();
    for (column, day) in days.iter().enumerate() {
        let is_marked = column == 0 || day.date.ends_with("-01");
        if is_marked && column >= axis.chars().count() {
            axis.push_str(&" ".repeat(column - axis.chars().count()));
            axis.push('╵');
            axis.push_str(&day.date);
        }
    }
    axis
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;
    use wharfage::domain::rating::{StorageOverage, TrafficOverage};

    use super::*;

    #[test]
    fn an_invoice_names_the_figures_of_each_line() {
        let storage = StorageOverage::of(5_368_709_120, 0, 744, 744, Decimal::new(2_000, 0));
        let traffic = TrafficOverage::of(9_437_184, 0, Decimal::new(1_500, 0));
        let currency = Currency::from_code("EUR").expect("EUR");
        let bases = [
            (Basis::Storage(storage), 1_344),
            (Basis::Traffic(traffic), 1_318),
            (Basis::Recurring, 7_900),
        ];
        let lines = bases.map(|(basis, amount_minor)| Line {
            text: "Small S3, NL".into(),
            from: date(2026, 1, 15),
            to: date(2026, 2, 15),
            amount_minor,
            plan_id: 5,
            plan_version: 1,
            basis,
        });
        let at = "2026-02-15T00:25:00Z".parse().expect("time");
        let amount_minor = lines.iter().map(|line| line.amount_minor).sum();
        insta::assert_snapshot!(invoice(&Invoice {
            invoice_id: 2,
            number: "1-EUR-0002".into(),
            client_id: 1,
            s3uid: "uid".into(),
            currency,
            amount_minor,
            lines: lines.into(),
            issued_at: at,
            due_on: date(2026, 3, 1),
            paid_at: Some(at),
            paid_minor: amount_minor,
            credited_minor: 0,
            taken_off: Vec::new(),
        }));
    }

    #[test]
    fn a_plot_has_a_column_per_day() {
        let mut day = date(2026, 1, 15);
        let days: Vec<DayFigures> = (0..80)
            .map(|number| {
                let figures = DayFigures {
                    date: day.to_string(),
                    peak_stored_bytes: number * MIB_BYTES / 10,
                    moved_bytes: 0,
                };
                day = day.tomorrow().expect("a day");
                figures
            })
            .collect();
        insta::assert_snapshot!(plot("Stored", &days, |day| day.peak_stored_bytes));
    }
}
