//! The last hour of a machine, a line for each thing that is measured.

use minder_client::v1;
use serde::Serialize;

use crate::{
    context::Context,
    failure::{DONE, Failure},
    flags::Output,
    screen::{Tone, put},
    table::Table,
    views::print,
    words::{bytes, cpu, time},
};

/// Letters of a line: two minutes of two hours, or one of one.
const WIDTH: usize = 60;
/// From nothing to the highest of the line.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

#[derive(Serialize)]
struct HistoryView {
    host: String,
    step_seconds: u32,
    samples: Vec<SampleView>,
}

#[derive(Serialize)]
struct SampleView {
    at_s: u32,
    cpu_permille: u32,
    load_permille: u32,
    memory_used_mib: u32,
    disk_used_permille: u32,
    received_kib_s: u32,
    sent_kib_s: u32,
}

impl SampleView {
    fn new(sample: &v1::MachineSample) -> Self {
        Self {
            at_s: sample.at_s,
            cpu_permille: sample.cpu_permille,
            load_permille: sample.load_permille,
            memory_used_mib: sample.memory_used_mib,
            disk_used_permille: sample.disk_used_permille,
            received_kib_s: sample.received_kib_s,
            sent_kib_s: sample.sent_kib_s,
        }
    }
}

pub async fn run(context: &Context, host: &str) -> Result<u8, Failure> {
    let reply = context.client.host_history(host).await?;
    match context.output {
        Output::Json | Output::Yaml => {
            let samples = reply.samples.iter().map(SampleView::new).collect();
            print(context.output, &HistoryView { host: reply.host, step_seconds: reply.step_seconds, samples })?;
        }
        Output::Name => put(&format!("{}\n", reply.host)),
        Output::Table | Output::Wide => put(&text(context, &reply)),
    }
    Ok(DONE)
}

fn text(context: &Context, reply: &v1::GetHostHistoryReply) -> String {
    let (Some(first), Some(last)) = (reply.samples.first(), reply.samples.last()) else {
        return format!("{}: no sample yet; a step takes {} s\n", reply.host, reply.step_seconds);
    };
    let end_s = last.at_s + reply.step_seconds;
    let stamp = |at_s: u32| time(u64::from(at_s) * 1_000);
    let head = format!("{} from {} to {}\n", reply.host, stamp(first.at_s), stamp(end_s));
    let percent = |permille: u32| cpu(permille);
    let load = |permille: u32| format!("{}.{:02}", permille / 1_000, permille % 1_000 / 10);
    let mib = |mib: u32| bytes(u64::from(mib) << 20);
    let kib = |kib: u32| format!("{}/s", bytes(u64::from(kib) << 10));
    type Measure<'a> = (&'static str, fn(&v1::MachineSample) -> u32, &'a dyn Fn(u32) -> String);
    let measures: [Measure<'_>; 6] = [
        ("cpu", |sample| sample.cpu_permille, &percent),
        ("load", |sample| sample.load_permille, &load),
        ("memory", |sample| sample.memory_used_mib, &mib),
        ("fullest disk", |sample| sample.disk_used_permille, &percent),
        ("received", |sample| sample.received_kib_s, &kib),
        ("sent", |sample| sample.sent_kib_s, &kib),
    ];
    let mut table = Table::new(&["", "OVER TIME", "LEAST", "MEAN", "MOST", "LAST"]);
    for (name, value, say) in measures {
        let values: Vec<u32> = reply.samples.iter().map(value).collect();
        let mean = values.iter().map(|value| u64::from(*value)).sum::<u64>() / values.len() as u64;
        let least = values.iter().min().copied().unwrap_or_default();
        let most = values.iter().max().copied().unwrap_or_default();
        let line = bars(&columns(&reply.samples, value, end_s));
        let cells = [name.into(), line, say(least), say(mean as u32), say(most), say(value(last))];
        table.row(cells.map(|cell| (cell, Tone::Plain)).to_vec());
    }
    head + &table.text(&context.screen)
}

/// The mean of each column of time; `None` where there is no sample.
fn columns(samples: &[v1::MachineSample], value: fn(&v1::MachineSample) -> u32, end_s: u32) -> Vec<Option<u32>> {
    let begin_s = samples.first().map_or(0, |sample| sample.at_s);
    let span_s = u64::from(end_s.saturating_sub(begin_s)).max(1);
    let mut sums = vec![(0_u64, 0_u64); WIDTH];
    for sample in samples {
        let at = u64::from(sample.at_s.saturating_sub(begin_s)) * WIDTH as u64 / span_s;
        if let Some((sum, count)) = sums.get_mut(at as usize) {
            *sum += u64::from(value(sample));
            *count += 1;
        }
    }
    sums.into_iter().map(|(sum, count)| sum.checked_div(count).map(|mean| mean as u32)).collect()
}

/// One letter for each column, blanks where nothing is known.
fn bars(columns: &[Option<u32>]) -> String {
    let most = columns.iter().flatten().max().copied().unwrap_or_default().max(1);
    let bar = |value: u32| BARS[(u64::from(value) * (BARS.len() as u64 - 1)).div_ceil(u64::from(most)) as usize];
    columns.iter().map(|column| column.map_or(' ', bar)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_show_heights_and_gaps() {
        assert_eq!(bars(&[Some(0), Some(1), Some(50), Some(100), None, Some(100)]), "▁▂▅█ █");
        assert_eq!(bars(&[Some(0), Some(0)]), "▁▁");
        let sample = |at_s, cpu_permille| v1::MachineSample { at_s, cpu_permille, ..Default::default() };
        // Two minutes in sixty columns of two seconds; the second half is missing but for its end.
        let samples = [sample(1_000, 10), sample(1_001, 30), sample(1_118, 5)];
        let columns = columns(&samples, |sample| sample.cpu_permille, 1_120);
        assert_eq!((columns[0], columns[1], columns[59]), (Some(20), None, Some(5)));
    }
}
