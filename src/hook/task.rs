//! The task that runs the command, one message at a time, and again after a failure.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::outbox::Due;
use super::program::Unusable;
use super::sent_file::{self, Notified};
use super::waiting::Found;
use super::{doctor, program, settings};
use crate::config::Settings;
use crate::config::settings::Notify;
use crate::feature::{Feature, Inbox, PassEnd, Registration, View};
use crate::model::Event;
use crate::model::document::Versioned;
use crate::model::event::EventKind;
use crate::model::hook::{HookView, Matter, Message, Turn};
use crate::model::memory::Machine;
use crate::model::notice::FeatureNotice;
use crate::sys::clock;
use crate::sys::command::{self, Input};

/// After the first failure; twice as long after each further one …
const FIRST_PAUSE: Duration = Duration::from_secs(15);
/// … up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(10 * 60);

/// Notifications, in the agent's table of features.
pub const REGISTRATION: Registration = Registration {
    name: "hook",
    keys: settings::KEYS,
    start: |settings, machine, inbox| Box::new(Hook::start(settings, machine, inbox)),
    look: |settings, _, view| view.hook = seen(&settings.notify),
    doctor: |view, _| view.hook.as_ref().map_or_else(Vec::new, doctor::checks),
};

/// Runs the command once with a test message.
///
/// # Errors
/// A sentence: why it cannot be run, or did not succeed.
pub async fn try_command(settings: &Settings, node: &str) -> Result<(), String> {
    let message = Message {
        node: node.to_owned(),
        turn: Turn::Begins,
        matter: Matter::Test,
        component: None,
        since: clock::now().wall,
        message: "this is a test of notify.command; nothing is wrong".to_owned(),
        next_step: "nothing has to be done".to_owned(),
    };
    send(&settings.notify, &message).await
}

/// Whether the configured command can be run, where there is one.
///
/// # Errors
/// Why not.
pub fn check_command(settings: &Settings) -> Result<(), Unusable> {
    settings.notify.command.first().map_or(Ok(()), |program| program::check(Path::new(program)))
}

/// What can be seen of it without running it.
fn seen(notify: &Notify) -> Option<HookView> {
    let program = notify.command.first()?;
    let unusable = program::check(Path::new(program)).err().map(|why| why.to_string());
    Some(HookView { program: program.clone(), unusable, waiting: 0, failed: None })
}

async fn send(notify: &Notify, message: &Message) -> Result<(), String> {
    let program = notify.command.first().ok_or("no command is configured (notify.command)")?;
    program::check(Path::new(program)).map_err(|why| why.to_string())?;
    let component = message.component.as_ref().map(ToString::to_string).unwrap_or_default();
    let environment = [
        ("LASTGOOD_NODE", message.node.clone()),
        ("LASTGOOD_TURN", message.turn.to_string()),
        ("LASTGOOD_MATTER", message.matter.to_string()),
        ("LASTGOOD_COMPONENT", component),
        ("LASTGOOD_SINCE", message.since.to_string()),
        ("LASTGOOD_MESSAGE", message.message.clone()),
        ("LASTGOOD_NEXT_STEP", message.next_step.clone()),
    ];
    // The last words of a process may hold a NUL, and no variable can.
    let environment = environment.map(|(name, value)| (name, value.replace('\0', "\u{fffd}")));
    let mut stdin = serde_json::to_vec(&Versioned::from(message)).map_err(|error| error.to_string())?;
    stdin.push(b'\n');
    let input = Input { stdin: &stdin, environment: &environment };
    command::run(&notify.command, notify.timeout, input).await.map_err(|why| format!("{program}: {why}"))
}

#[derive(Debug)]
struct Hook {
    notify: Notify,
    found: watch::Sender<Option<Found>>,
    state: Arc<Mutex<State>>,
    _task: JoinSet<()>,
}

/// What the task is at, for doctor.
#[derive(Debug, Default)]
struct State {
    waiting: usize,
    failed: Option<String>,
}

impl Hook {
    fn start(settings: &Settings, machine: &Machine, inbox: Inbox) -> Self {
        let (found, finds) = watch::channel(None);
        let state = Arc::new(Mutex::new(State::default()));
        let notify = settings.notify.clone();
        let mut task = JoinSet::new();
        if !notify.command.is_empty() {
            let sender = Sender {
                notify: notify.clone(),
                node: machine.node_name.clone(),
                run: settings.paths.run.clone(),
                notified: sent_file::read(&settings.paths.run),
                state: Arc::clone(&state),
                inbox,
                first_pause: FIRST_PAUSE,
            };
            task.spawn(sender.go_on(finds));
        }
        Self { notify, found, state, _task: task }
    }
}

impl Feature for Hook {
    fn after_pass(&mut self, pass: PassEnd<'_>) {
        if self.notify.command.is_empty() {
            return;
        }
        let found = Found::of(pass.judged, pass.memory, pass.seen.at.wall, self.notify.unhealthy_after);
        self.found.send_if_modified(|before| {
            let changed = before.as_ref() != Some(&found);
            *before = Some(found);
            changed
        });
    }

    fn notices(&self, _: Timestamp) -> Vec<FeatureNotice> {
        Vec::new()
    }

    fn show(&self, view: &mut View) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        view.hook =
            seen(&self.notify).map(|seen| HookView { waiting: state.waiting, failed: state.failed.clone(), ..seen });
    }
}

struct Sender {
    notify: Notify,
    node: String,
    run: PathBuf,
    notified: Notified,
    state: Arc<Mutex<State>>,
    inbox: Inbox,
    /// After a first failure.
    first_pause: Duration,
}

impl Sender {
    async fn go_on(mut self, mut finds: watch::Receiver<Option<Found>>) {
        let mut pause = self.first_pause;
        loop {
            let found = finds.borrow_and_update().clone().unwrap_or_default();
            if self.send_all(&found).await {
                pause = self.first_pause;
                if finds.changed().await.is_err() {
                    return;
                }
                continue;
            }
            // After a failure, what changes meanwhile waits as well: the command would fail for it too.
            tokio::time::sleep(pause).await;
            pause = LONGEST_PAUSE.min(pause * 2);
            if finds.has_changed().is_err() {
                return;
            }
        }
    }

    /// Sends what is due; whether all of it was sent. One message that fails keeps no other from being sent: what makes it fail
    /// may be in it.
    async fn send_all(&mut self, found: &Found) -> bool {
        if found.all.is_empty() {
            return true;
        }
        let due = Due::all(found, &self.notified, &self.node, clock::now().wall);
        let mut left = due.len();
        let mut failed = false;
        self.note(|state| state.waiting = left);
        for Due { component, message, sent } in due {
            if let Err(why) = send(&self.notify, &message).await {
                if !failed {
                    self.fail(&why).await;
                }
                failed = true;
                continue;
            }
            left -= 1;
            self.note(|state| state.waiting = left);
            match sent {
                Some(sent) => drop(self.notified.components.insert(component.clone(), sent)),
                None => drop(self.notified.components.remove(&component)),
            }
            let text = format!("ran notify.command: {} {}", message.matter, message.turn);
            let event = Event::new(clock::now().wall, EventKind::Notice, Some(&component), text, message.message);
            let _ = self.inbox.send(event).await;
            if let Err(error) = sent_file::write(&self.run, &self.notified) {
                // The worst of it is that a restart of the agent sends the message again.
                let sentence = format!("what was sent by notify.command cannot be saved: {error}");
                let _ = self.inbox.send(Event::new(clock::now().wall, EventKind::Failure, None, sentence, "")).await;
            }
        }
        if !failed {
            self.note(|state| state.failed = None);
        }
        !failed
    }

    fn note(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Reports a failure, unless it is the one that was reported last.
    async fn fail(&self, why: &str) {
        let mut news = false;
        self.note(|state| {
            news = state.failed.as_deref() != Some(why);
            state.failed = Some(why.to_owned());
        });
        if news {
            let sentence = format!("notify.command failed: {why}");
            let because = "lastgood tries again for as long as something waits for the operator";
            let _ = self.inbox.send(Event::new(clock::now().wall, EventKind::Failure, None, sentence, because)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::super::waiting::Waiting;
    use super::*;
    use crate::feature;
    use crate::model::ComponentId;

    struct Lab {
        dir: tempfile::TempDir,
        notify: Notify,
    }

    impl Lab {
        /// The script writes each message to a file, and fails while there is a file `fail`.
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let program = dir.path().join("page");
            let at = dir.path().display();
            let script =
                format!("#!/bin/sh\n[ ! -e {at}/fail ] || {{ echo 'no route' >&2; exit 3; }}\ncat >> {at}/got\n");
            fs::write(&program, script).unwrap();
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
            let command = vec![program.display().to_string()];
            let notify = Notify { command, timeout: Duration::from_secs(20), ..Settings::default().notify };
            Self { dir, notify }
        }

        fn sender(&self, inbox: Inbox) -> Sender {
            let run = self.dir.path().join("run");
            Sender {
                notify: self.notify.clone(),
                node: "m1".to_owned(),
                notified: sent_file::read(&run),
                run,
                state: Arc::default(),
                inbox,
                first_pause: Duration::from_millis(10),
            }
        }

        fn got(&self) -> Vec<Turn> {
            let text = fs::read_to_string(self.dir.path().join("got")).unwrap_or_default();
            text.lines().map(|line| serde_json::from_str::<Message>(line).unwrap().turn).collect()
        }
    }

    #[tokio::test]
    async fn a_message_that_fails_keeps_no_other_from_being_sent_and_is_reported_once() {
        let lab = Lab::new();
        let script = format!(
            "#!/bin/sh\n[ \"$LASTGOOD_COMPONENT\" != etcd ] || {{ echo 'not this one' >&2; exit 3; }}\ncat >> {}\n",
            lab.dir.path().join("got").display()
        );
        fs::write(lab.dir.path().join("page"), script).unwrap();
        let (inbox, mut events) = feature::inbox();
        let mut sender = lab.sender(inbox);
        let mut found = found(true);
        let scheduler = ComponentId::system("kube-scheduler");
        found.waiting.insert(scheduler.clone(), found.waiting[&ComponentId::system("etcd")].clone());
        found.all.push(scheduler);
        for _ in 0..2 {
            assert!(!sender.send_all(&found).await);
        }
        assert_eq!(lab.got(), [Turn::Begins], "the other, once");
        let (waiting, failed) = {
            let state = sender.state.lock().unwrap();
            (state.waiting, state.failed.clone())
        };
        assert!(waiting == 1 && failed.is_some_and(|why| why.contains("not this one")));
        drop(sender);
        let mut kinds = Vec::new();
        while let Some(event) = events.recv().await {
            kinds.push(event.kind);
        }
        assert_eq!(kinds, [EventKind::Failure, EventKind::Notice]);
    }

    #[tokio::test]
    async fn a_nul_in_a_message_is_no_reason_not_to_send_it() {
        let lab = Lab::new();
        let mut found = found(true);
        found.waiting.values_mut().for_each(|waiting| waiting.message = "exited: \0\0".to_owned());
        let (inbox, _events) = feature::inbox();
        assert!(lab.sender(inbox).send_all(&found).await);
        assert_eq!(lab.got(), [Turn::Begins]);
    }

    fn found(held: bool) -> Found {
        let etcd = ComponentId::system("etcd");
        let waiting = Waiting {
            matter: Matter::Held,
            since: None,
            message: "no image".to_owned(),
            next_step: "load it".to_owned(),
        };
        Found {
            waiting: held.then(|| (etcd.clone(), waiting)).into_iter().collect(),
            healthy: if held { Vec::new() } else { vec![etcd.clone()] },
            all: vec![etcd],
        }
    }

    #[tokio::test]
    async fn a_command_that_fails_is_reported_once_and_run_until_it_succeeds() {
        let lab = Lab::new();
        let fail = lab.dir.path().join("fail");
        fs::write(&fail, "").unwrap();
        let (inbox, mut events) = feature::inbox();
        let (tell, finds) = watch::channel(Some(found(true)));
        let sender = lab.sender(inbox);
        let state = Arc::clone(&sender.state);
        let task = tokio::spawn(sender.go_on(finds));
        let failure = events.recv().await.unwrap();
        assert_eq!(failure.kind, EventKind::Failure);
        assert!(failure.to.contains("no route"), "{failure}");
        assert_eq!(state.lock().unwrap().waiting, 1);
        fs::remove_file(&fail).unwrap();
        assert_eq!(events.recv().await.unwrap().kind, EventKind::Notice, "the next event is its success");
        tell.send(Some(found(false))).unwrap();
        assert_eq!(events.recv().await.unwrap().kind, EventKind::Notice);
        assert_eq!(lab.got(), [Turn::Begins, Turn::Ends]);
        let left = |state: &Mutex<State>| {
            let state = state.lock().unwrap();
            (state.waiting, state.failed.clone())
        };
        assert_eq!(left(&state), (0, None));
        drop(tell);
        task.await.unwrap();
    }

    #[tokio::test]
    async fn another_agent_does_not_send_it_again() {
        let lab = Lab::new();
        for _ in 0..2 {
            let (inbox, _events) = feature::inbox();
            assert!(lab.sender(inbox).send_all(&found(true)).await);
        }
        assert_eq!(lab.got(), [Turn::Begins]);
        let (inbox, _events) = feature::inbox();
        assert!(lab.sender(inbox).send_all(&Found::default()).await, "before the first pass nothing is known");
        assert_eq!(lab.got(), [Turn::Begins]);
    }

    #[tokio::test]
    async fn a_command_that_is_absent_or_not_configured_is_an_error_of_the_test() {
        let mut settings = Settings::default();
        assert!(try_command(&settings, "m1").await.is_err());
        settings.notify.command = vec!["/no/such/program".to_owned()];
        assert!(try_command(&settings, "m1").await.unwrap_err().contains("/no/such/program"));
        let lab = Lab::new();
        settings.notify = lab.notify.clone();
        try_command(&settings, "m1").await.unwrap();
        assert_eq!(lab.got(), [Turn::Begins]);
    }
}
