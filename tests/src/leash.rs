//! A shell that outlives the test run by a moment: when the run dies, however it dies, the shell's standard input closes and
//! it ends what the run had started and not ended.

use std::{
    io::Write,
    path::Path,
    process::{ChildStdin, Command, Stdio},
    sync::{Mutex, OnceLock, PoisonError},
};

/// Keeps `SIGNAL:PID` of what runs, and folders to remove at last.
const SCRIPT: &str = r#"
trap '' INT TERM HUP
kept=
while read -r verb what; do
    rest=
    for one in $kept; do [ "$one" = "$what" ] || rest="$rest $one"; done
    kept=$rest
    [ "$verb" = keep ] && kept="$kept $what"
    [ "$verb" = folder ] && folders="$folders $what"
done
for one in $kept; do kill -"${one%%:*}" "${one##*:}" 2>/dev/null; done
for one in $kept; do
    tries=0
    while kill -0 "${one##*:}" 2>/dev/null && [ $tries -lt 100 ]; do sleep 0.1; tries=$((tries + 1)); done
done
for one in $folders; do rm -rf "$one"; done
"#;

fn tell(line: &str) {
    static SHELL: OnceLock<Mutex<ChildStdin>> = OnceLock::new();
    let shell = SHELL.get_or_init(|| {
        #[expect(clippy::zombie_processes, reason = "it outlives the run by design, and ends by itself")]
        let mut child = Command::new("/bin/sh")
            .args(["-c", SCRIPT])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("/bin/sh starts");
        Mutex::new(child.stdin.take().expect("its input is a pipe"))
    });
    let mut input = shell.lock().unwrap_or_else(PoisonError::into_inner);
    // Without the shell there is no second net, and that is no reason to fail.
    let _ = input.write_all(line.as_bytes());
}

/// This process is ended by `signal` (`INT`, `KILL`) should the test run die before [`release`].
pub fn keep(signal: &str, pid: u32) {
    tell(&format!("keep {signal}:{pid}\n"));
}

/// It has ended.
pub fn release(signal: &str, pid: u32) {
    tell(&format!("release {signal}:{pid}\n"));
}

/// This folder is removed when the test run has ended, if it is still there.
pub fn remove_at_end(folder: &Path) {
    tell(&format!("folder {}\n", folder.display()));
}
