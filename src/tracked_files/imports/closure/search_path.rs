//! What sources do to the folders that are searched.

use std::path::{Path, PathBuf};

use super::super::graph::{Certainty, ReasonKind};
use super::super::listed::{is_pattern, matches};
use super::super::named_path::candidates;
use super::{At, Closure, Data};
use crate::python::import_system::Finder;
use crate::python::interpreter::pth;
use crate::python::source::{SearchPath, SearchPathEdit};

impl Closure<'_> {
    pub(super) fn edit(&mut self, number: usize, edit: &SearchPathEdit) {
        let certainty = self.certainty(number, edit.when);
        let Some(node) = self.graph.node(number) else { return };
        if certainty.is_none_or(|certainty| certainty == Certainty::TypeOnly) {
            return;
        }
        let (module, number_of_finder) = (node.module.clone(), node.finder);
        let Some((source, path)) = self.filled_in(number, &edit.path) else {
            self.edits.push((number, edit.clone()));
            return;
        };
        let mut folders = candidates(&self.folders, &source, &path);
        if edit.path.rest.split('/').any(is_pattern) {
            folders = folders.iter().flat_map(|pattern| matches(pattern)).collect();
        }
        if edit.target == SearchPath::Site {
            let version = self.finders.get(number_of_finder).map_or((3, 0, 0), Finder::version);
            for folder in folders.clone() {
                folders.extend(self.site_folder(number, edit.line, &folder, version));
            }
        }
        let Some(finder) = self.finders.get_mut(number_of_finder) else { return };
        for folder in folders {
            match (edit.target, &module) {
                (SearchPath::Global | SearchPath::Site, _) => finder.add_folder(&folder, edit.first),
                (SearchPath::Removed, _) if certainty == Some(Certainty::Certain) => finder.remove_folder(&folder),
                (SearchPath::Removed, _) => {}
                (SearchPath::Working, _) if !folder.is_dir() || self.folders.further.contains(&folder) => {}
                // Where it certainly goes is looked at first.
                (SearchPath::Working, _) if certainty == Some(Certainty::Certain) => {
                    self.folders.further.insert(0, folder);
                }
                (SearchPath::Working, _) => self.folders.further.push(folder),
                (SearchPath::OwnPackage, Some(package)) => finder.add_to_package(package, &folder),
                (SearchPath::EveryPortion, Some(package)) => finder.add_every_portion(package),
                (_, None) => {}
            }
        }
    }

    /// The folders that the `.pth` files in a folder name; the files belong to the run.
    pub(super) fn site_folder(
        &mut self,
        number: usize,
        line: u32,
        folder: &Path,
        version: (u8, u8, u8),
    ) -> Vec<PathBuf> {
        let mut names: Vec<PathBuf> = std::fs::read_dir(folder)
            .into_iter()
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|extension| extension == "pth"))
            .collect();
        names.sort();
        let at = At { node: number, finder: self.finder_of(number), line, certainty: Certainty::Certain };
        let mut folders = Vec::new();
        for path in names.into_iter().filter(|path| self.folders.is_inside(path)).collect::<Vec<_>>() {
            for line in pth::read(&path, version).unwrap_or_default() {
                if let pth::Line::Path(added) = line {
                    folders.push(crate::python::import_system::normalised(&added));
                }
            }
            self.data.push(Data { at, path, kind: ReasonKind::Opened });
        }
        folders
    }
}
