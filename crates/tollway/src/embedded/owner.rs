//! The user that PostgreSQL runs as. It refuses to run as root, so root runs it as `postgres`, or as `nobody` if there
//! is no such user; any other user runs it as themselves.

use std::{
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
};

use anyhow::{Context, bail};
use nix::unistd::{Uid, User, geteuid};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
}

/// `None`: the user we are. Existing data decides: a `postgres` user who came later does not own it.
pub fn of(data: &Path) -> anyhow::Result<Option<Owner>> {
    let made_by = data.metadata().ok().map(|meta| meta.uid());
    let we = geteuid();
    match made_by {
        Some(uid) if !we.is_root() && uid != we.as_raw() => bail!(
            "{} belongs to {}: run `tollway dev` as that user, or choose another folder with --data DIR",
            data.display(),
            named(uid)
        ),
        Some(0) if we.is_root() => bail!(
            "{} belongs to root, and PostgreSQL refuses to run as root: choose another folder with --data DIR",
            data.display()
        ),
        _ if !we.is_root() => Ok(None),
        Some(uid) => {
            let user = User::from_uid(Uid::from_raw(uid))?
                .with_context(|| format!("{} belongs to user id {uid}, which no longer exists", data.display()))?;
            Ok(Some(user.into()))
        }
        None => Ok(Some(servant()?)),
    }
}

fn servant() -> anyhow::Result<Owner> {
    for name in ["postgres", "nobody"] {
        if let Some(user) = User::from_name(name)? {
            return Ok(user.into());
        }
    }
    bail!(
        "PostgreSQL refuses to run as root, and this machine has neither a user postgres nor a user nobody: run `tollway dev` \
         as an ordinary user"
    )
}

impl From<User> for Owner {
    fn from(user: User) -> Self {
        Self { name: user.name, uid: user.uid.as_raw(), gid: user.gid.as_raw() }
    }
}

fn named(uid: u32) -> String {
    match User::from_uid(Uid::from_raw(uid)) {
        Ok(Some(user)) => format!("user {}", user.name),
        _ => format!("user id {uid}"),
    }
}

/// PostgreSQL opens its files by their full path, so its user must be able to pass every folder on the way.
pub fn check_way(dir: &Path, owner: &Owner) -> anyhow::Result<()> {
    for ancestor in dir.ancestors() {
        let meta = ancestor.metadata().with_context(|| format!("cannot look at {}", ancestor.display()))?;
        let mode = meta.permissions().mode();
        let passes = match () {
            () if meta.uid() == owner.uid => mode & 0o100 != 0,
            () if meta.gid() == owner.gid => mode & 0o010 != 0,
            () => mode & 0o001 != 0,
        };
        if !passes {
            bail!(
                "PostgreSQL runs as user {}, who may not enter {}. Choose a folder that every user can reach, such as \
                 /var/lib/tollway, with --data DIR or TOLLWAY_DATA",
                owner.name,
                ancestor.display()
            );
        }
    }
    Ok(())
}
