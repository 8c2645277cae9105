//! How the demo shows invoices, usage and the ledger: as wide as the terminal, with colours where there is one.
//!
//! Colours are always written; whoever prints them takes them out again where they are not wanted.

use std::fmt::Write;

use anstyle::{AnsiColor, Style};
use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, ContentArrangement, LineStyle, Table, TableStyle};
use rust_decimal::Decimal;
use textwrap::{Options, WordSplitter};
use wharfage::domain::figures::GB_BYTES;
use wharfage::domain::invoice::{Basis, Invoice, InvoiceId, Line};
use wharfage::domain::ledger::{Balances, LedgerAccount, Posting};
use wharfage::domain::money::{Currency, to_major};

/// Lines of a plot.
const PLOT_HEIGHT: u64 = 4;
/// A column's cell by how many eighths of it are filled.
const EIGHTHS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Bytes of a MiB.
const MIB_BYTES: u64 = 1 << 20;
/// Where the text of the timeline begins, after day and time.
const TIMELINE_INDENT: &str = "                  ";

const HEADING: Style = Style::new().bold();
const QUIET: Style = Style::new().dimmed();
const REFUSED: Style = AnsiColor::Red.on_default().bold();
const DUNNED: Style = AnsiColor::Yellow.on_default();
const PAID: Style = AnsiColor::Green.on_default();

/// What is stored and moved on a day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DayFigures {
    /// `2026-01-15`.
    pub date: String,
    /// The most that was stored.
    pub peak_stored_bytes: u64,
    /// Sent to clients.
    pub sent_bytes: u64,
    /// Received from clients.
    pub received_bytes: u64,
}

/// Bytes as MiB with two places.
pub(super) fn mib(bytes: u64) -> String {
    let mib = Decimal::from(bytes) / Decimal::from(MIB_BYTES);
    format!("{mib:.2} MiB")
}

fn styled(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

/// A text, broken at words.
pub(super) fn paragraph(text: &str, width: usize) -> String {
    textwrap::fill(text, at_words(width))
}

/// Breaks at spaces alone: a date has hyphens.
fn at_words<'a>(width: usize) -> Options<'a> {
    Options::new(width.max(1)).word_splitter(WordSplitter::NoHyphenation)
}

/// A line of the timeline, broken at words so that it fits, the rest under its text.
pub(super) fn timeline(time: &str, text: &str, width: usize) -> String {
    let beside = at_words(width.saturating_sub(TIMELINE_INDENT.len()));
    let style = style_of(text);
    let mut lines = textwrap::wrap(text, beside).into_iter();
    let first = lines.next().unwrap_or_default();
    let mut told = format!("{}  {}", styled(QUIET, time), styled(style, &first));
    for line in lines {
        // Writing to a string does not fail.
        let _ = write!(told, "\n{TIMELINE_INDENT}{}", styled(style, &line));
    }
    told
}

/// Stopped and refused, asked to pay, or paid.
fn style_of(text: &str) -> Style {
    let begins = |kinds: &[&str]| kinds.iter().any(|kind| text.starts_with(kind));
    if begins(&["account.suspended", "account.terminated"]) || text.contains(" is refused: ") {
        REFUSED
    } else if begins(&["invoice.reminder"])
        || (begins(&["invoice.issued"]) && text.contains(" is issued: open"))
    {
        DUNNED
    } else if begins(&["credit.added", "payment.received", "account.resumed"]) {
        PAID
    } else {
        Style::new()
    }
}

/// An amount with its currency.
pub(super) fn money(amount_minor: i64, currency: Currency) -> String {
    format!("{} {}", to_major(amount_minor, currency), currency.code())
}

/// An invoice as a table, and under it the figures that each line was computed from.
pub(super) fn invoice(invoice: &Invoice, width: usize) -> String {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table.set_width(u16::try_from(width).unwrap_or(u16::MAX));
    table.set_header([
        "",
        "for",
        "from – to",
        "quantity",
        "rate",
        invoice.currency.code(),
    ]);
    let mut figures = String::new();
    for (position, line) in (1..).zip(&invoice.lines) {
        let (component, quantity, rate, origin) = explain(line);
        let to = line.to.to_string();
        // The year once, where it is the same.
        let to = match line.from.year() == line.to.year() {
            true => &to[5..],
            false => &to,
        };
        table.add_row([
            format!("{position}"),
            component.into(),
            format!("{} – {to}", line.from),
            quantity,
            rate,
            to_major(line.amount_minor, invoice.currency).to_string(),
        ]);
        let first = format!("  {position}  ");
        let options = at_words(width)
            .initial_indent(&first)
            .subsequent_indent("     ");
        let text = format!(
            "{}, version {} of the plan: {origin}",
            line.text, line.plan_version
        );
        figures.push_str(&textwrap::fill(&text, options));
        figures.push('\n');
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
    let title = format!(
        "Invoice {}, issued on {}, due on {}, {paid}",
        invoice.number,
        &invoice.issued_at.to_string()[..10],
        invoice.due_on,
    );
    format!(
        "{}\n{table}\n{figures}",
        styled(HEADING, &paragraph(&title, width))
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
            "part month",
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

/// A plot of bytes by day.
pub(super) struct Plot {
    pub title: &'static str,
    /// What a column stands for.
    pub legend: &'static str,
    pub colour: AnsiColor,
    pub bytes_of: fn(&DayFigures) -> u64,
}

impl Plot {
    /// A column per day, or per few days where there are more than fit, over the days on which it stands; beside it the bytes.
    pub(super) fn draw(&self, days: &[DayFigures], width: usize) -> String {
        let most = days.iter().map(self.bytes_of).max().unwrap_or(0);
        let step_mib = step_mib(most);
        let label_width = (PLOT_HEIGHT * step_mib).to_string().len().max("MiB".len());
        let room = width.saturating_sub(label_width + 2).max(1);
        let days_each = days.len().div_ceil(room).max(1);
        let columns: Vec<&[DayFigures]> = days.chunks(days_each).collect();

        let style = self.colour.on_default();
        let column = match days_each {
            1 => "a day".into(),
            days => format!("{days} days, the highest of them"),
        };
        let legend = format!("{:>label_width$}   █ {column}: {}", "MiB", self.legend);
        let options = at_words(width).subsequent_indent("        ");
        let legend = textwrap::fill(&legend, options);
        let mut lines = vec![
            styled(HEADING, self.title),
            legend.replacen('█', &styled(style, "█"), 1),
        ];
        // Rounded up: what is little is still seen.
        let eighths = |bytes: u64| (bytes * 8).div_ceil(step_mib * MIB_BYTES);
        for below in (0..PLOT_HEIGHT).rev() {
            let cells: String = columns
                .iter()
                .map(|days| days.iter().map(self.bytes_of).max().unwrap_or(0))
                .map(|bytes| eighths(bytes).saturating_sub(below * 8).min(8))
                .map(|filled| EIGHTHS[filled as usize])
                .collect();
            let label = (below + 1) * step_mib;
            let cells = cells.trim_end();
            lines.push(match cells {
                "" => format!("{label:>label_width$} ┤"),
                cells => format!("{label:>label_width$} ┤{}", styled(style, cells)),
            });
        }
        let (axis, dates) = axis(&columns);
        lines.push(format!("{:>label_width$} └{axis}", 0));
        lines.push(format!("{:>label_width$}  {dates}", ""));
        lines.push(String::new());
        lines.join("\n")
    }
}

/// What a line of a plot stands for, so that the highest column fits: 1, 2, 3, 5, 10, 20, … MiB.
fn step_mib(most: u64) -> u64 {
    let mut decade = 1;
    loop {
        for step in [1, 2, 3, 5] {
            if most <= step * decade * PLOT_HEIGHT * MIB_BYTES {
                return step * decade;
            }
        }
        decade *= 10;
    }
}

/// A line with a mark under the first column and under each in which a month begins, and under it their dates.
fn axis(columns: &[&[DayFigures]]) -> (String, String) {
    let mut axis = String::new();
    let mut dates = String::new();
    for (position, days) in columns.iter().enumerate() {
        let marked = match position {
            0 => days.first(),
            _ => days.iter().find(|day| day.date.ends_with("-01")),
        };
        axis.push(if marked.is_some() { '┬' } else { '─' });
        if let Some(day) = marked
            && (dates.is_empty() || position > dates.len())
            && position + day.date.len() <= columns.len().max(day.date.len())
        {
            dates.push_str(&" ".repeat(position - dates.len()));
            dates.push_str(&day.date);
        }
    }
    (axis, dates)
}

/// The postings of a client, what each moved, and what they add up to.
pub(super) fn ledger(
    postings: &[Posting],
    invoices: &[Invoice],
    balances: &Balances,
    width: usize,
) -> String {
    let mut table = Table::new();
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table.set_width(u16::try_from(width).unwrap_or(u16::MAX));
    let rule = LineStyle::none().fill('─').junction('─');
    table.load_style(TableStyle::new().header_separator(rule));
    table.set_header([
        "day", "what", "credit", "held", "owed", "revenue", "outside",
    ]);
    for posting in postings {
        let moved = |account| match posting.amounts_minor.get(&account) {
            Some(amount_minor) => {
                let sign = if *amount_minor > 0 { "+" } else { "" };
                format!("{sign}{}", to_major(*amount_minor, posting.currency))
            }
            None => String::new(),
        };
        table.add_row([
            posting.at.to_string()[..10].to_owned(),
            cause(posting, invoices),
            moved(LedgerAccount::Credit),
            moved(LedgerAccount::Held),
            moved(LedgerAccount::Receivable),
            moved(LedgerAccount::Revenue),
            moved(LedgerAccount::Funding),
        ]);
    }
    let currency = postings.first().map(|posting| posting.currency);
    let total = |amount_minor: i64| match currency {
        Some(currency) => to_major(amount_minor, currency).to_string(),
        None => String::new(),
    };
    table.add_row([
        String::new(),
        "balances".into(),
        total(balances.credit_minor),
        total(balances.held_minor),
        total(balances.receivable_minor),
        total(balances.revenue_minor),
        total(balances.funding_minor),
    ]);
    let last = table.column_count().saturating_sub(1);
    for (position, column) in table.column_iter_mut().enumerate() {
        column.set_padding((
            0,
            if position == last {
                0
            } else {
                1 + u16::from(position > 0)
            },
        ));
        if position > 1 {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let drawn = table.trim_fmt();
    match drawn.rsplit_once('\n') {
        Some((rows, balances)) => format!("{rows}\n{}\n", styled(HEADING, balances)),
        None => drawn,
    }
}

/// What made a posting, in a few words.
fn cause(posting: &Posting, invoices: &[Invoice]) -> String {
    let (kind, of) = posting.id.split_once(':').unwrap_or((&posting.id, ""));
    let number = |invoice_id: Option<InvoiceId>| {
        let invoice = invoices
            .iter()
            .find(|invoice| Some(invoice.invoice_id) == invoice_id);
        invoice.map_or_else(|| "an invoice".into(), |invoice| invoice.number.clone())
    };
    let first = || number(posting.taken_off.first().map(|taken| taken.invoice_id));
    let issued = || number(of.parse().ok().map(InvoiceId));
    match kind {
        "top_up" => of.to_owned(),
        "hold" => "order: price held".into(),
        "release" => "order: given back".into(),
        "capture" => format!("{}, from hold", first()),
        "pay" => format!("{}, from credit", issued()),
        "owe" if posting.taken_off.is_empty() => format!("{}, open", issued()),
        "owe" => format!("{}, partly open", issued()),
        "settle" => format!("{}, from credit", first()),
        "refund" => format!("credit note {}", issued()),
        _ => posting.id.clone(),
    }
}

/// Where the money came from, how the invoices were paid, and what is left of it.
pub(super) fn sources(
    postings: &[Posting],
    invoices: &[Invoice],
    balances: &Balances,
    currency: Currency,
) -> String {
    let mut rows: Vec<(&str, String, i64)> = Vec::new();
    let mut came_in = 0;
    let mut paid: [(&str, i64); 4] = [
        ("held when it was ordered", 0),
        ("taken from credit", 0),
        ("paid by money as it came in", 0),
        ("taken off by credit notes", 0),
    ];
    for posting in postings {
        let (kind, of) = posting.id.split_once(':').unwrap_or((&posting.id, ""));
        if let Some(amount_minor) = posting.amounts_minor.get(&LedgerAccount::Funding) {
            let label = if came_in == 0 { "came in" } else { "" };
            came_in -= amount_minor;
            rows.push((label, of.to_owned(), -amount_minor));
        }
        let way = match kind {
            "capture" => 0,
            "top_up" => 2,
            "refund" => 3,
            _ => 1,
        };
        let taken_off = posting.taken_off.iter();
        paid[way].1 += taken_off.map(|taken| taken.amount_minor).sum::<i64>();
    }
    let invoiced: i64 = invoices.iter().map(|invoice| invoice.amount_minor).sum();
    let settled: i64 = paid.iter().map(|(_, amount_minor)| amount_minor).sum();
    rows.push(("", "together".into(), came_in));
    rows.push(("invoiced", format!("{} invoices", invoices.len()), invoiced));
    for (way, amount_minor) in paid {
        rows.push(("", format!("  {way}"), amount_minor));
    }
    rows.push(("", "  still open".into(), invoiced - settled));
    rows.push(("left", "credit".into(), balances.credit_minor));
    let mut table = Table::new();
    table.load_style(TableStyle::new());
    for (label, what, amount_minor) in rows {
        let amount = money(amount_minor, currency);
        table.add_row([label.to_owned(), what, amount]);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    if let Some(column) = table.column_mut(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    format!("{}\n", table.trim_fmt())
}

/// The heading of a part.
pub(super) fn heading(text: &str) -> String {
    styled(HEADING, text)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use jiff::civil::date;
    use wharfage::domain::account::S3Uid;
    use wharfage::domain::client::ClientId;
    use wharfage::domain::invoice::TakenOff;
    use wharfage::domain::plan::PlanId;
    use wharfage::domain::rating::{StorageOverage, TrafficOverage};

    use super::*;
    use wharfage::domain::ledger::Cause;

    fn an_invoice() -> Invoice {
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
            plan_id: PlanId(5),
            plan_version: 1,
            basis,
        });
        let at = "2026-02-15T00:25:00Z".parse().expect("time");
        let amount_minor = lines.iter().map(|line| line.amount_minor).sum();
        Invoice {
            invoice_id: InvoiceId(2),
            number: "1-EUR-0002".into(),
            client_id: ClientId(1),
            s3uid: S3Uid("uid".into()),
            currency,
            amount_minor,
            lines: lines.into(),
            issued_at: at,
            due_on: date(2026, 3, 1),
            paid_at: Some(at),
            paid_minor: amount_minor,
            credited_minor: 0,
            taken_off: Vec::new(),
        }
    }

    #[test]
    fn an_invoice_names_the_figures_of_each_line() {
        insta::assert_snapshot!(plain(&invoice(&an_invoice(), 80)));
    }

    /// What stands there without colours.
    fn plain(text: &str) -> String {
        anstream::adapter::strip_str(text).to_string()
    }

    fn days(count: u64) -> Vec<DayFigures> {
        let mut day = date(2026, 1, 15);
        (0..count)
            .map(|number| {
                let figures = DayFigures {
                    date: day.to_string(),
                    peak_stored_bytes: number * MIB_BYTES / 10,
                    sent_bytes: 0,
                    received_bytes: 0,
                };
                day = day.tomorrow().expect("a day");
                figures
            })
            .collect()
    }

    const STORED: Plot = Plot {
        title: "Stored",
        legend: "the most that was stored",
        colour: AnsiColor::Cyan,
        bytes_of: |day| day.peak_stored_bytes,
    };

    #[test]
    fn a_plot_has_a_column_per_day_and_bytes_beside_it() {
        insta::assert_snapshot!(plain(&STORED.draw(&days(61), 80)));
    }

    #[test]
    fn a_plot_that_is_too_wide_has_fewer_columns() {
        insta::assert_snapshot!(plain(&STORED.draw(&days(80), 50)));
    }

    #[test]
    fn a_plot_s_lines_are_round_figures() {
        for (most_mib, step) in [
            (0, 1),
            (4, 1),
            (5, 2),
            (9, 3),
            (13, 5),
            (21, 10),
            (999, 300),
        ] {
            assert_eq!(step_mib(most_mib * MIB_BYTES), step, "{most_mib}");
        }
    }

    #[test]
    fn everything_fits_into_the_width() {
        for width in [40, 60, 80, 100] {
            let shown = [
                invoice(&an_invoice(), width),
                STORED.draw(&days(80), width),
                timeline("2026-01-15 10:30", &"word ".repeat(40), width),
            ];
            for line in shown.iter().flat_map(|text| text.lines()) {
                let columns = plain(line).chars().count();
                assert!(columns <= width, "{columns} in {width}: {line}");
            }
        }
    }

    #[test]
    fn dunning_and_refusals_have_colours() {
        let cases = [
            ("invoice.reminder: invoice 2 over 9.00 EUR", DUNNED),
            (
                "invoice.issued: invoice 1 over 9.00 EUR is issued: open, due on 2026-02-20",
                DUNNED,
            ),
            (
                "invoice.issued: invoice 1 over 9.00 EUR is issued: paid, due on 2026-02-20",
                Style::new(),
            ),
            ("account.suspended: the keys are stopped: unpaid", REFUSED),
            ("S3: GET dock.raw is refused: 403 UserSuspended", REFUSED),
            ("payment.received: 9.00 EUR received for invoice 2", PAID),
            ("S3: dock.raw is uploaded, 2.00 MiB", Style::new()),
        ];
        for (text, style) in cases {
            assert_eq!(style_of(text), style, "{text}");
            let line = timeline("2026-01-15 10:30", text, 100);
            assert!(
                line.contains(&format!("{style}{text}{style:#}")),
                "{line:?}"
            );
            assert_eq!(plain(&line), format!("2026-01-15 10:30  {text}"));
        }
    }

    #[test]
    fn the_ledger_tells_where_money_came_from() {
        let currency = Currency::from_code("EUR").expect("EUR");
        let payer = (wharfage::domain::client::ClientId(1), currency);
        let at = |day: i64| Timestamp::from_second(1_768_000_000 + day * 86_400).expect("time");
        let off = |invoice_id, amount_minor| {
            let invoice_id = InvoiceId(invoice_id);
            vec![TakenOff {
                invoice_id,
                amount_minor,
            }]
        };
        let post = |cause, day, amount_minor, taken_off| {
            Posting::new(cause, payer, at(day), amount_minor, taken_off)
        };
        let postings = [
            post(Cause::TopUp("first credit"), 0, 15_000, Vec::new()),
            post(Cause::Hold("o"), 1, 11_900, Vec::new()),
            post(Cause::Capture("o"), 1, 11_900, off(1, 11_900)),
            post(Cause::Owe(InvoiceId(2)), 30, 10_562, off(2, 3_100)),
            post(Cause::Refund(InvoiceId(2)), 31, 562, off(2, 562)),
            post(
                Cause::TopUp("bank transfer 4711"),
                32,
                10_000,
                off(2, 6_900),
            ),
        ];
        let mut balances = Balances::default();
        for posting in &postings {
            balances.apply(posting);
        }
        let first = Invoice {
            invoice_id: InvoiceId(1),
            number: "1-EUR-0001".into(),
            amount_minor: 11_900,
            ..an_invoice()
        };
        let invoices = [first, an_invoice()];
        let shown = format!(
            "{}\n{}",
            ledger(&postings, &invoices, &balances, 80),
            sources(&postings, &invoices, &balances, currency)
        );
        insta::assert_snapshot!(plain(&shown));
    }
}
