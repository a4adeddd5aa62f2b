//! The figures of a soak.

use std::{
    fs,
    time::{Duration, Instant},
};

use crate::{Soak, TENANTS};

/// What has happened so far.
pub(crate) struct Figures {
    started: Instant,
    samples: Vec<Sample>,
    pub(crate) kills: usize,
    pub(crate) clock_jumps: usize,
    pub(crate) lost_events: usize,
    pub(crate) edits: usize,
}

impl Default for Figures {
    fn default() -> Self {
        Self { started: Instant::now(), samples: Vec::new(), kills: 0, clock_jumps: 0, lost_events: 0, edits: 0 }
    }
}

/// Memory and open handles of the largest instance at one time.
struct Sample {
    after: Duration,
    resident: u64,
    handles: usize,
}

impl Soak {
    /// Measures memory and open handles, every ten seconds.
    pub(crate) fn sample(&mut self) {
        let Figures { started, samples, .. } = &mut self.figures;
        if samples.last().is_none_or(|last| started.elapsed() - last.after > Duration::from_secs(10)) {
            let processes = self.instances.iter().map(|instance| instance.host.process());
            let new = processes.map(|process| Sample {
                after: started.elapsed(),
                resident: resident_memory(process),
                handles: fs::read_dir(format!("/proc/{process}/fd")).map_or(0, Iterator::count),
            });
            samples.extend(new.max_by_key(|sample| sample.resident));
        }
    }

    /// Checks every row, and prints the figures.
    pub(crate) async fn report(self, converged: Duration) {
        let (rows, kinds) = self.check_rows().await;
        let received = self.scene.receiver.received();
        // Receivers reject the signatures of instances whose clocks are wrong.
        assert_eq!((received.malformed, received.not_found), (0, 0));
        let Figures { samples, kills, clock_jumps, lost_events, edits, .. } = &self.figures;
        let (first, last) = (samples.first().unwrap(), samples.last().unwrap());
        let peak = samples.iter().map(|sample| sample.resident).max().unwrap();
        let handles = samples.iter().map(|sample| sample.handles).max().unwrap();
        println!("drops         {} of {TENANTS} tenants: {kinds:?}", self.drops.len());
        println!("rows          {rows} delivered exactly, in {} messages", received.accepted - received.attributes);
        println!("attributes    {edits} edits of definitions, {} messages", received.attributes);
        println!("duplicates    {} messages, which receivers drop by their ids", received.duplicates);
        println!(
            "faults        {kills} kills, {clock_jumps} clock jumps, {lost_events} lost events, {} rejected signatures, {} requests to \
             storage",
            received.bad_signatures,
            self.gateway.requests().len()
        );
        println!("converged     {:.0} s after the last fault", converged.as_secs_f64());
        println!("memory        {} KiB at first, {} KiB at last, at most {peak} KiB", first.resident, last.resident);
        println!("open handles  {} at first, {} at last, at most {handles}", first.handles, last.handles);
        for Sample { after, resident, handles } in samples.iter().step_by(samples.len().div_ceil(10)) {
            println!("  after {:4} s: {resident} KiB, {handles} open handles", after.as_secs());
        }
    }
}

/// The resident memory of a process, in KiB; 0 if it has exited.
fn resident_memory(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}
