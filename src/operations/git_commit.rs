//! The commit that a git work tree stands at, read from its files: no git needed.

use std::fs;
use std::path::{Path, PathBuf};

/// The commit of the work tree that `folder` is in, as hexadecimal digits. Where it is known that there is nothing at a path,
/// nobody looks.
pub fn of_folder(folder: &Path, is_nothing: impl Fn(&Path) -> bool) -> Option<String> {
    let mut markers = folder.ancestors().map(|ancestor| ancestor.join(".git"));
    let marker = markers.find(|path| !is_nothing(path) && path.exists())?;
    let git_dir = if marker.is_dir() { marker } else { linked(&marker)? };
    let head = read(&git_dir.join("HEAD"))?;
    let commit = match head.strip_prefix("ref: ") {
        Some(name) => {
            // Branches of a linked work tree are in the repository that it was made from.
            let common = read(&git_dir.join("commondir")).map_or_else(|| git_dir.clone(), |path| git_dir.join(path));
            read(&common.join(name)).or_else(|| packed(&common, name))?
        }
        None => head,
    };
    let is_id = matches!(commit.len(), 40 | 64) && commit.bytes().all(|b| b.is_ascii_hexdigit());
    is_id.then(|| commit.to_ascii_lowercase())
}

fn linked(marker: &Path) -> Option<PathBuf> {
    let text = read(marker)?;
    Some(marker.parent()?.join(text.strip_prefix("gitdir: ")?))
}

fn packed(git_dir: &Path, name: &str) -> Option<String> {
    let refs = fs::read_to_string(git_dir.join("packed-refs")).ok()?;
    refs.lines().filter_map(|line| line.split_once(' ')).find(|(_, n)| *n == name).map(|(commit, _)| commit.to_owned())
}

fn read(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim_end().to_owned())
}
