//! Finds PostgreSQL's server programs: the configured folder, then PATH, then the highest version where Debian and
//! others keep them. Data made by one major version can only be run by it.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// The schema needs what came with it.
const LOWEST_MAJOR: u32 = 15;

/// A folder with `initdb`, `pg_ctl` and `postgres`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binaries {
    pub dir: PathBuf,
    pub major: u32,
}

/// `made_by` is the major version of the data that is there already.
pub fn find(configured: Option<&Path>, made_by: Option<u32>) -> anyhow::Result<Binaries> {
    if let Some(dir) = configured {
        if !is_complete(dir) {
            bail!("{} does not hold initdb, pg_ctl and postgres", dir.display());
        }
        return choose(vec![read_version(dir)?], made_by);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).filter_map(|dir| std::fs::canonicalize(dir.join("postgres")).ok());
    let mut found = Vec::new();
    for dir in on_path.filter_map(|program| program.parent().map(Path::to_owned)).chain(installed()) {
        if is_complete(&dir) && !found.iter().any(|known: &Binaries| known.dir == dir) {
            found.push(read_version(&dir)?);
        }
    }
    choose(found, made_by)
}

fn choose(found: Vec<Binaries>, made_by: Option<u32>) -> anyhow::Result<Binaries> {
    let Some(first) = found.first() else {
        bail!(
            "no PostgreSQL server was found on this machine. Install it (Debian and Ubuntu: apt-get install postgresql; \
             Fedora: dnf install postgresql-server; macOS: brew install postgresql@17), name its folder with \
             --postgres-bin DIR, or set DATABASE_URL to use a server that runs elsewhere"
        );
    };
    let Some(made_by) = made_by else {
        if first.major < LOWEST_MAJOR {
            bail!("{} is PostgreSQL {}; Tollway needs {LOWEST_MAJOR} or later", first.dir.display(), first.major);
        }
        return Ok(first.clone());
    };
    if let Some(same) = found.iter().find(|binaries| binaries.major == made_by) {
        return Ok(same.clone());
    }
    bail!(
        "the embedded database was made by PostgreSQL {made_by}, and this machine has PostgreSQL {}, which cannot read it. \
         Install PostgreSQL {made_by} again (Debian: apt-get install postgresql-{made_by}) to go on; to move to {}, start \
         `tollway dev` with {made_by} once more, save the data with pg_dump, choose a new folder with --data, and restore",
        first.major,
        first.major
    )
}

fn is_complete(dir: &Path) -> bool {
    ["initdb", "pg_ctl", "postgres"].iter().all(|program| dir.join(program).is_file())
}

/// `/usr/lib/postgresql/*/bin` (Debian) and `/usr/pgsql-*/bin` (PGDG on Red Hat), highest version first.
fn installed() -> impl Iterator<Item = PathBuf> {
    let mut dirs: Vec<(u32, PathBuf)> = Vec::new();
    for (parent, prefix) in [("/usr/lib/postgresql", ""), ("/usr", "pgsql-")] {
        for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let version = name.to_str().and_then(|name| name.strip_prefix(prefix)).and_then(|rest| rest.parse().ok());
            if let Some(version) = version {
                dirs.push((version, entry.path().join("bin")));
            }
        }
    }
    dirs.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    dirs.into_iter().map(|(_, dir)| dir)
}

fn read_version(dir: &Path) -> anyhow::Result<Binaries> {
    let program = dir.join("postgres");
    let said = std::process::Command::new(&program)
        .arg("--version")
        .output()
        .with_context(|| format!("cannot run {}", program.display()))?;
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let major = major_of(&said).with_context(|| format!("{} --version said {said:?}", program.display()))?;
    Ok(Binaries { dir: dir.to_owned(), major })
}

/// 15 of `postgres (PostgreSQL) 15.13 (Debian 15.13-0+deb12u1)`, and of `16beta1`.
fn major_of(said: &str) -> Option<u32> {
    let version = said.split_once("(PostgreSQL) ")?.1;
    let digits = version.find(|c: char| !c.is_ascii_digit()).unwrap_or(version.len());
    version[..digits].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binaries(major: u32) -> Binaries {
        Binaries { dir: format!("/opt/{major}/bin").into(), major }
    }

    #[test]
    fn a_version_is_read_from_what_postgres_says() {
        assert_eq!(major_of("postgres (PostgreSQL) 15.13 (Debian 15.13-0+deb12u1)\n"), Some(15));
        assert_eq!(major_of("postgres (PostgreSQL) 18beta2\n"), Some(18));
        assert_eq!(major_of("postgres (EnterpriseDB) 15\n"), None);
    }

    #[test]
    fn new_data_takes_the_first_found_and_old_data_its_own_version() {
        let found = vec![binaries(17), binaries(15)];
        assert_eq!(choose(found.clone(), None).unwrap().major, 17);
        assert_eq!(choose(found, Some(15)).unwrap().major, 15);
    }

    #[test]
    fn data_of_another_version_is_refused_with_a_way_out() {
        let said = choose(vec![binaries(17)], Some(15)).unwrap_err().to_string();
        assert!(said.contains("made by PostgreSQL 15") && said.contains("pg_dump"), "{said}");
    }

    #[test]
    fn a_machine_without_postgres_is_told_what_to_install() {
        let said = choose(Vec::new(), None).unwrap_err().to_string();
        assert!(said.contains("apt-get install postgresql"), "{said}");
        assert!(choose(vec![binaries(13)], None).unwrap_err().to_string().contains("15 or later"));
    }
}
