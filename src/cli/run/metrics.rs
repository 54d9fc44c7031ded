//! `--metrics`: the counts for Prometheus, in the text format of its exposition (version 0.0.4), in a
//! file that node_exporter's textfile collector or a scraper of files takes.

use std::{
    fmt::Write,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use super::tally::Tally;
use crate::{
    cli::{Failure, atomic_file},
    hal::VMId,
};

/// How often the file is written while guests run.
pub const PERIOD: Duration = Duration::from_secs(10);

/// A guest and its counts.
pub struct Counted<'a> {
    pub id: VMId,
    pub name: &'a str,
    pub tally: &'a Tally,
}

/// The file.
#[derive(Debug)]
pub struct Metrics {
    path: PathBuf,
    is_failing: bool,
}

impl Metrics {
    /// It is written at `path`.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), is_failing: false }
    }

    /// Writes it while guests run: trouble is told once, until it is over.
    pub fn write(&mut self, guests: &[Counted<'_>], time: Duration) {
        let written = self.replace(guests, time);
        if let (Err(error), false) = (&written, self.is_failing) {
            log::warn!("--metrics {}: {error}", self.path.display());
        }
        self.is_failing = written.is_err();
    }

    /// Writes it for the last time.
    pub fn finish(&self, guests: &[Counted<'_>], time: Duration) -> Result<(), Failure> {
        let what = format!("write --metrics {}", self.path.display());
        self.replace(guests, time).map_err(|error| Failure::call(&what, error))
    }

    fn replace(&self, guests: &[Counted<'_>], time: Duration) -> io::Result<()> {
        atomic_file::replace(&self.path, text(guests, time).as_bytes())
    }
}

/// Labels and values.
type Samples = Vec<(String, String)>;

/// All of the file. Samples of one name stand together, each name with its type before them.
fn text(guests: &[Counted<'_>], time: Duration) -> String {
    let mut text = String::new();
    let mut family = |name: &str, kind: &str, help: &str, samples: Samples| {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in samples {
            let _ = writeln!(text, "{name}{{{labels}}} {value}");
        }
    };
    let all = |sample: &dyn Fn(&Counted<'_>, &str) -> Samples| {
        let of =
            |it: &Counted<'_>| sample(it, &labels(&[("vm", it.name), ("id", &it.id.to_string())]));
        guests.iter().flat_map(of).collect::<Samples>()
    };
    let uptime = format!("{:.3}", time.as_secs_f64());
    family(
        "axvmm_uptime_seconds",
        "gauge",
        "Time since axvmm was started.",
        all(&|_, vm| vec![(vm.to_owned(), uptime.clone())]),
    );
    family(
        "axvmm_reboots_total",
        "counter",
        "How often the guest was started again.",
        all(&|it, vm| vec![(vm.to_owned(), it.tally.reboots.to_string())]),
    );
    family(
        "axvmm_exits_total",
        "counter",
        "Exits of the guest's vCPUs, by reason.",
        all(&|it, vm| {
            let of_vcpus = it.tally.exits.iter().flat_map(|exits| {
                exits.by_reason.iter().map(move |by| (exits.vcpu.to_string(), by))
            });
            let sample = |(vcpu, (reason, count)): (String, (&&str, &u64))| {
                let labels = labels(&[("vcpu", &vcpu), ("reason", reason)]);
                (format!("{vm},{labels}"), count.to_string())
            };
            of_vcpus.map(sample).collect()
        }),
    );
    family(
        "axvmm_device_accesses_total",
        "counter",
        "Exits that were accesses to a device, by its window.",
        all(&|it, vm| {
            let mut samples = Vec::new();
            for window in &it.tally.devices {
                for (vcpu, counts) in window.by_vcpu.iter().enumerate() {
                    for (access, count) in [("read", counts.reads), ("write", counts.writes)] {
                        let labels = labels(&[
                            ("vcpu", &vcpu.to_string()),
                            ("device", &window.window.device),
                            ("bus", window.window.bus.name()),
                            ("addresses", &window.window.addresses),
                            ("access", access),
                        ]);
                        samples.push((format!("{vm},{labels}"), count.to_string()));
                    }
                }
            }
            samples
        }),
    );
    family(
        "axvmm_unowned_accesses_total",
        "counter",
        "Accesses that no device took.",
        all(&|it, vm| {
            let counts = [("read", it.tally.unowned.reads), ("write", it.tally.unowned.writes)];
            let sample = |(access, count): (&str, u64)| {
                (format!("{vm},{}", labels(&[("access", access)])), count.to_string())
            };
            counts.map(sample).to_vec()
        }),
    );
    text
}

/// Labels as they stand between braces.
fn labels(pairs: &[(&str, &str)]) -> String {
    let label = |(name, value): &(&str, &str)| {
        let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        format!("{name}=\"{value}\"")
    };
    pairs.iter().map(label).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::run::tally::fixture;

    #[test]
    fn samples_of_a_name_stand_together_and_labels_are_escaped() {
        let one = fixture();
        let other = Tally { reboots: 4, ..Tally::default() };
        let guests = [
            Counted { id: 1, name: "a\"b\\c\nd", tally: &one },
            Counted { id: 2, name: "other", tally: &other },
        ];
        let text = text(&guests, Duration::from_millis(1500));
        let vm = r#"vm="a\"b\\c\nd",id="1""#;
        for line in [
            format!("axvmm_uptime_seconds{{{vm}}} 1.500"),
            "axvmm_reboots_total{vm=\"other\",id=\"2\"} 4".to_owned(),
            format!("axvmm_exits_total{{{vm},vcpu=\"0\",reason=\"IoRead\"}} 7"),
            format!(
                "axvmm_device_accesses_total{{{vm},vcpu=\"0\",device=\"com1\",bus=\"port\",\
                 addresses=\"0x3f8..=0x3ff\",access=\"write\"}} 1000"
            ),
        ] {
            assert!(text.lines().any(|it| it == line), "no {line}\n{text}");
        }
        let names = text.lines().filter_map(|it| it.strip_prefix("# TYPE ")).count();
        assert_eq!(names, 5);
        let mut seen: Vec<&str> = text.lines().filter_map(|it| it.split('{').next()).collect();
        seen.retain(|it| !it.starts_with('#'));
        seen.dedup();
        assert_eq!(seen.len(), names, "samples of a name are apart\n{text}");
    }
}
