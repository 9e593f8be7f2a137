//! The text view: the facts of this node's member, a table of all members, and notices.

use std::fmt::Write as _;

use super::{EtcdView, Judge, LatencyView, MemberRow, Quorum, Says};
use crate::config::duration::roughly;
use crate::config::size;
use crate::model::clock::between;
use crate::model::member_conflict;
use crate::report::table::{lines, table};
use crate::report::text::section;

impl EtcdView {
    pub fn text(&self) -> String {
        let mut out = String::new();
        let node = if self.node.is_empty() { "this node" } else { &self.node };
        let since = self.word.since.map_or(String::new(), |since| format!(" for {}", roughly(between(since, self.at))));
        let by = match self.word.by {
            Judge::Agent => "",
            Judge::Command => " (the agent does not run: judged by these probes alone)",
        };
        let _ = writeln!(out, "{} of {node}: {}{since}{by}", self.component, self.word.verdict);
        if let Some(cause) = &self.word.cause {
            let _ = writeln!(out, "  explained by: {cause}");
        }
        let mut facts = table(&["", ""]);
        for (name, value) in self.facts() {
            facts.add_row([name.to_owned(), value]);
        }
        // The first line is the empty header.
        out.extend(lines(&facts).lines().skip(1).map(|line| format!("  {line}\n")));
        if !self.members.is_empty() {
            let _ = write!(out, "\n{}", self.table());
        }
        let whose = |row: &MemberRow| if row.own { "this member".to_owned() } else { row.called() };
        let silent = self.members.iter().filter_map(|row| Some(format!("{}: {}", whose(row), row.silent.as_ref()?)));
        section(&mut out, "Unknown", silent);
        section(&mut out, "Evidence", self.word.evidence.iter().cloned());
        let conflicts = member_conflict::sentence(&self.member_conflicts);
        let conflicts = conflicts.map(|sentence| format!("{sentence}; next: {}", member_conflict::NEXT));
        section(&mut out, "Notices", self.word.notices.iter().cloned().chain(conflicts));
        out
    }

    fn facts(&self) -> Vec<(&'static str, String)> {
        let mut facts = vec![("probed at", self.endpoint.clone())];
        facts.extend(
            self.cluster.iter().map(|cluster| ("cluster", format!("{cluster}, {} members", self.members.len()))),
        );
        facts.push(match &self.quorum {
            Quorum::Agreed { revision } => {
                ("quorum", format!("answers: a linearizable read found revision {revision}"))
            }
            Quorum::NotAgreed { why } => {
                ("quorum", format!("does not answer: {why}; the values below need no quorum and may be stale"))
            }
        });
        let own = self.members.iter().find(|row| row.own).and_then(|row| row.says.as_ref());
        if let Some((bytes, own)) = own.and_then(|own| Some((own.db_bytes?, own))) {
            let of = |part: u64, all: u64| part.saturating_mul(100).checked_div(all).unwrap_or_default();
            let mut size = size::roughly(bytes);
            if let Some(used) = own.db_in_use_bytes {
                let _ = write!(size, ", {} of it in use ({} %)", size::roughly(used), of(used, bytes));
            }
            match self.quota {
                Some(quota) => {
                    let _ = write!(size, "; {} % of its quota of {}", of(bytes, quota), size::roughly(quota));
                }
                None => size.push_str("; its quota is unknown"),
            }
            facts.push(("database", size));
        }
        facts.extend(self.growth.iter().map(|growth| ("growth", growth.sentence())));
        facts.extend(self.fsync.iter().map(|latency| ("WAL fsync", latency.sentence())));
        facts.extend(self.commit.iter().map(|latency| ("database commit", latency.sentence())));
        let pending = self.proposals_pending.map(|pending| format!("{pending} proposals wait"));
        let changes = self.leader_changes.map(|changes| format!("{changes} leader changes since it started"));
        let raft: Vec<String> = changes.into_iter().chain(pending).collect();
        facts.extend((!raft.is_empty()).then(|| ("raft", raft.join(", "))));
        let alarms: Vec<&str> = own.iter().flat_map(|own| &own.alarms).map(String::as_str).collect();
        let none = own.is_some().then_some("none");
        facts.extend(
            if alarms.is_empty() { none.map(str::to_owned) } else { Some(alarms.join(", ")) }.map(|a| ("alarms", a)),
        );
        facts
    }

    fn table(&self) -> String {
        let mut table = table(&[
            "MEMBER",
            "ID",
            "ROLE",
            "VERSION",
            "TERM",
            "RAFT INDEX",
            "APPLIED",
            "REVISION",
            "SIZE",
            "IN USE",
            "ERRORS",
        ]);
        for row in &self.members {
            let dash = || "-".to_owned();
            let told = |of: &dyn Fn(&Says) -> Option<String>| row.says.as_ref().and_then(of).unwrap_or_else(dash);
            table.add_row([
                if row.own { format!("{} (here)", row.called()) } else { row.called() },
                row.id.clone().unwrap_or_else(dash),
                row.role.map_or("does not answer".to_owned(), |role| role.to_string()),
                told(&|says| Some(says.version.clone())),
                told(&|says| Some(says.term.to_string())),
                told(&|says| Some(says.raft_index.to_string())),
                told(&|says| Some(says.applied_index?.to_string())),
                told(&|says| Some(says.revision.to_string())),
                told(&|says| Some(size::roughly(says.db_bytes?))),
                told(&|says| Some(size::roughly(says.db_in_use_bytes?))),
                told(&|says| {
                    let all: Vec<&str> = says.alarms.iter().chain(&says.errors).map(String::as_str).collect();
                    (!all.is_empty()).then(|| all.join("; "))
                }),
            ]);
        }
        lines(&table)
    }
}

impl MemberRow {
    fn called(&self) -> String {
        match (self.name.as_str(), self.own) {
            ("", true) => "this member".to_owned(),
            ("", false) => self.peer_urls.first().cloned().unwrap_or("never started".to_owned()),
            (name, _) => name.to_owned(),
        }
    }
}

impl LatencyView {
    pub fn sentence(&self) -> String {
        let bound = |ms: Option<f64>| ms.map_or("above the last bucket".to_owned(), |ms| format!("at most {ms} ms"));
        let mut out = match self.count {
            Some(count) => format!(
                "median {}, p99 {}, of {count} since it started",
                bound(self.p50_at_most_ms),
                bound(self.p99_at_most_ms)
            ),
            None => "none since it started".to_owned(),
        };
        if let Some(above) = self.p99_now_above_ms.filter(|above| *above > 0.0) {
            let _ = write!(out, "; recently p99 above {above} ms");
        }
        out
    }
}
