//! Imports by calls: importlib, `__import__`, runpy, pkgutil, multiprocessing.

use ruff_python_ast::{self as ast, Expr};
use ruff_text_size::{Ranged, TextSize};

use super::evaluate::{Beginning, Evaluator, argument, is_dotted, small_number};
use super::walk::Walker;
use super::{Base, How, Import, Package, When, importers};

/// Notes what a call imports; false where it is none of these.
pub(super) fn call<'a>(walker: &mut Walker<'_, 'a>, call: &'a ast::ExprCall, last: &str) -> bool {
    if imports_own_modules(call, last) {
        walker.import_lazily(call.start(), None, How::AllBelow);
        return true;
    }
    if !matches!(
        last,
        "import_module"
            | "__import__"
            | "find_spec"
            | "find_loader"
            | "get_loader"
            | "run_module"
            | "resolve_name"
            | "set_forkserver_preload"
            | "iter_modules"
            | "walk_packages"
            | "entry_points"
            | "iter_entry_points"
            | "attach"
            | "attach_stub"
    ) {
        return false;
    }
    let Some(name) = walker.qualified(&call.func) else {
        // `context.set_forkserver_preload`: the context is any object.
        if last == "set_forkserver_preload" {
            preload(walker, call);
        }
        return true;
    };
    match name.as_str() {
        "importlib.import_module" => import_module(walker, call),
        "builtins.__import__" | "importlib.__import__" => builtin_import(walker, call),
        "importlib.util.find_spec" | "importlib.find_loader" | "pkgutil.find_loader" | "pkgutil.get_loader" => {
            look_for(walker, call);
        }
        "runpy.run_module" => {
            let modules = argument(call, 0, &["mod_name"]).map(|name| walker.evaluator().texts_of(name));
            call.arguments.args.first().into_iter().for_each(|name| walker.take(name));
            if modules.as_ref().is_some_and(Vec::is_empty) {
                walker.load_unknown(call.start());
            }
            for module in modules.unwrap_or_default() {
                run_module(walker, call, &module);
            }
        }
        "pkgutil.resolve_name" => resolve_name(walker, call),
        "pkgutil.iter_modules" => all_submodules(walker, call, How::AllSubmodules),
        "pkgutil.walk_packages" => all_submodules(walker, call, How::AllBelow),
        "importlib.metadata.entry_points" | "importlib_metadata.entry_points" => {
            entry_points(walker, call, call.arguments.find_keyword("group").map(|group| &group.value));
        }
        "pkg_resources.iter_entry_points" => entry_points(walker, call, argument(call, 0, &["group"])),
        "lazy_loader.attach" => attach(walker, call),
        "lazy_loader.attach_stub" => walker.import_lazily(call.start(), None, How::AllSubmodules),
        _ if last == "set_forkserver_preload" => preload(walker, call),
        _ => return false,
    }
    true
}

/// Whether a function of the project's own is given its caller's package to import what is in it, as
/// `import_submodules(__name__)` does: by its name, since what it does with it is in another file.
fn imports_own_modules(call: &ast::ExprCall, last: &str) -> bool {
    let own = |expr: &Expr| matches!(expr, Expr::Name(name) if matches!(name.id.as_str(), "__name__" | "__package__" | "__path__"));
    let does = ["import", "load", "discover", "register"].iter().any(|verb| last.contains(verb));
    let what = ["submodule", "modules", "plugins", "all_from", "package"].iter().any(|noun| last.contains(noun));
    does && what && call.arguments.args.first().is_some_and(own)
}

/// Notes a module that is run as `python -m` does.
pub(super) fn run_module(walker: &mut Walker<'_, '_>, at: &impl Ranged, module: &str) {
    if is_dotted(module) {
        walker.import(at.start(), 0, module, Some(vec!["__main__".into()]), How::Call);
    }
}

fn import_module<'a>(walker: &mut Walker<'_, 'a>, call: &'a ast::ExprCall) {
    let evaluator = walker.evaluator();
    let Some(name) = argument(call, 0, &["name"]) else { return };
    let beginnings = evaluator.beginnings_of(name);
    let is_known = is_known(&evaluator, name, &beginnings);
    let anchor = argument(call, 1, &["package"]).map(|package| evaluator.package(package, evaluator.here()));
    walker.take(name);
    argument(call, 1, &["package"]).into_iter().for_each(|package| walker.take(package));
    note_unknown(walker, call, is_known);
    importers::note(walker, name);
    for beginning in beginnings {
        import_beginning(walker, call, &beginning, anchor.clone());
    }
}

/// Whether at least the package of a name is known, by something else than a parameter's default.
fn is_known<'a>(evaluator: &Evaluator<'_, 'a>, name: &'a Expr, beginnings: &[Beginning]) -> bool {
    let known = |beginnings: &[Beginning]| {
        let is_known = |known: &&Beginning| known.is_whole || known.own_package || known.text.contains('.');
        beginnings.iter().filter(is_known).cloned().collect::<Vec<_>>()
    };
    evaluator.is_known(&known(beginnings), |evaluator| known(&evaluator.beginnings_of(name)))
}

fn note_unknown(walker: &mut Walker<'_, '_>, call: &ast::ExprCall, is_known: bool) {
    if !is_known {
        walker.load_unknown(call.start());
    }
}

fn import_beginning(
    walker: &mut Walker<'_, '_>,
    call: &ast::ExprCall,
    beginning: &Beginning,
    anchor: Option<Option<Package>>,
) {
    let (package, text) = match (beginning, anchor) {
        (Beginning { own_package: true, text, .. }, _) => {
            (Package { level: 1, module: String::new() }, text.strip_prefix('.').unwrap_or(text).to_owned())
        }
        (Beginning { text, .. }, Some(Some(package))) if text.starts_with('.') => {
            let name = text.trim_start_matches('.');
            match package.up(text.len() - name.len() - 1) {
                Some(package) => (package, name.to_owned()),
                None => return,
            }
        }
        // Relative to nothing that is known.
        (Beginning { text, .. }, _) if text.starts_with('.') => return,
        _ => (Package { level: 0, module: String::new() }, beginning.text.clone()),
    };
    imported(walker, call, &package, &text, beginning.is_whole, None);
}

/// `__import__(name, globals, locals, fromlist, level)`.
fn builtin_import<'a>(walker: &mut Walker<'_, 'a>, call: &'a ast::ExprCall) {
    let evaluator = walker.evaluator();
    let Some(name) = argument(call, 0, &["name"]) else { return };
    let beginnings = evaluator.beginnings_of(name);
    let is_known = is_known(&evaluator, name, &beginnings);
    let names = argument(call, 3, &["fromlist"]).map(|names| walker.texts(names));
    let level = match argument(call, 4, &["level"]) {
        None => 0,
        // Python 2's default, absolute or relative, is -1: what is relative in a package is absolute in a script.
        Some(level) => u32::from(small_number(level).unwrap_or(0)),
    };
    // `fromlist=[""]` only makes it give the submodule itself.
    let names = names.map(|mut names| {
        names.retain(|name| !name.is_empty());
        names
    });
    let names = names.filter(|names| !names.is_empty());
    walker.take(name);
    note_unknown(walker, call, is_known);
    importers::note(walker, name);
    for beginning in beginnings {
        let level = if beginning.own_package { 1 } else { level };
        let package = Package { level, module: String::new() };
        let text = beginning.text.as_str();
        let text = if beginning.own_package { text.strip_prefix('.').unwrap_or_default() } else { text };
        imported(walker, call, &package, text, beginning.is_whole, names.clone());
    }
}

/// Notes a name below a package, or what begins with it.
fn imported(
    walker: &mut Walker<'_, '_>,
    call: &ast::ExprCall,
    package: &Package,
    text: &str,
    is_whole: bool,
    names: Option<Vec<String>>,
) {
    let joined = |name: &str| match (package.module.as_str(), name) {
        ("", name) => name.to_owned(),
        (module, "") => module.to_owned(),
        (module, name) => format!("{module}.{name}"),
    };
    if is_whole {
        let module = joined(text);
        // The main program is there already.
        if package.level == 0 && module == "__main__" {
            return;
        }
        if is_dotted(&module) || module.is_empty() && package.level > 0 {
            let names = names.or_else(|| module.is_empty().then(Vec::new));
            walker.import(call.start(), package.level, &module, names, How::Call);
        }
        return;
    }
    // Of a name that goes on, what stands before the last dot is whole.
    let module = match text.rsplit_once('.') {
        Some((module, _)) => joined(module),
        // A relative name without more is any submodule of the package.
        None => joined(""),
    };
    if is_dotted(&module) || module.is_empty() && package.level > 0 {
        walker.import(call.start(), package.level, &module, None, How::Prefix);
    }
}

/// `pkgutil.resolve_name("a.b:c.d")`; without a colon the last part may be a module or not.
fn resolve_name<'a>(walker: &mut Walker<'_, 'a>, call: &'a ast::ExprCall) {
    let names = argument(call, 0, &["name"]).map(|name| walker.evaluator().texts_of(name));
    call.arguments.args.first().into_iter().for_each(|name| walker.take(name));
    if names.as_ref().is_some_and(Vec::is_empty) {
        walker.load_unknown(call.start());
    }
    for name in names.unwrap_or_default() {
        resolve_text(walker, call, &name);
    }
}

fn resolve_text(walker: &mut Walker<'_, '_>, call: &ast::ExprCall, name: &str) {
    let (module, names) = match (name.split_once(':'), name.rsplit_once('.')) {
        (Some((module, object)), _) => {
            let first = object.split('.').next().filter(|first| !first.is_empty());
            (module, first.map(|first| vec![first.to_owned()]))
        }
        (None, Some((module, last))) => (module, Some(vec![last.to_owned()])),
        (None, None) => (name, None),
    };
    if is_dotted(module) {
        walker.import(call.start(), 0, module, names, How::Call);
    }
}

fn preload<'a>(walker: &mut Walker<'_, 'a>, call: &'a ast::ExprCall) {
    let Some(names) = argument(call, 0, &["module_names"]) else { return };
    if let Expr::List(ast::ExprList { elts, .. }) | Expr::Tuple(ast::ExprTuple { elts, .. }) = names {
        elts.iter().for_each(|name| walker.take(name));
    }
    for name in walker.texts(names) {
        // The main program is what is imported there under this name.
        if is_dotted(&name) && name != "__main__" {
            walker.import(call.start(), 0, &name, None, How::Call);
        }
    }
}

/// `importlib.util.find_spec("x")`: what is looked for is loaded where it is there.
fn look_for<'a>(walker: &mut Walker<'_, 'a>, call: &'a ast::ExprCall) {
    let Some(name) = argument(call, 0, &["name", "fullname", "module_or_name"]) else { return };
    let names = walker.evaluator().texts_of(name);
    walker.take(name);
    importers::note(walker, name);
    for name in names.into_iter().filter(|name| is_dotted(name)) {
        walker.import(call.start(), 0, &name, None, How::Literal);
    }
}

/// Notes the plugins of a group; those of all where it is not told.
fn entry_points<'a>(walker: &mut Walker<'_, 'a>, call: &'a ast::ExprCall, group: Option<&'a Expr>) {
    let groups = group.map(|group| walker.evaluator().texts_of(group)).filter(|groups| !groups.is_empty());
    group.into_iter().for_each(|group| walker.take(group));
    for group in groups.unwrap_or_else(|| vec![String::new()]) {
        walker.import(call.start(), 0, &group, None, How::EntryPoints);
    }
}

/// `pkgutil.iter_modules(package.__path__)`.
fn all_submodules<'a>(walker: &mut Walker<'_, 'a>, call: &'a ast::ExprCall, how: How) {
    walker.lists = true;
    let Some(path) = argument(call, 0, &["path"]) else { return };
    if let Some(package) = package_of_path(walker, path) {
        walker.import(call.start(), package.level, &package.module, None, how);
    }
}

/// `lazy_loader.attach(__name__, submodules, submod_attrs)`: each is imported when it is asked for.
fn attach<'a>(walker: &mut Walker<'_, 'a>, call: &'a ast::ExprCall) {
    let mut names = argument(call, 1, &["submodules"]).map(|names| walker.texts(names)).unwrap_or_default();
    if let Some(Expr::Dict(dict)) = argument(call, 2, &["submod_attrs"]).map(|dict| walker.evaluator().resolved(dict)) {
        names.extend(dict.items.iter().filter_map(|item| walker.evaluator().text_of(item.key.as_ref()?)));
    }
    names.retain(|name| is_dotted(name));
    walker.import_lazily(call.start(), Some(names), How::Call);
}

fn package_of_path<'a>(walker: &Walker<'_, 'a>, path: &'a Expr) -> Option<Package> {
    let evaluator = walker.evaluator();
    match evaluator.resolved(path) {
        Expr::Name(name) if name.id.as_str() == "__path__" => walker
            .scopes
            .lookup("__path__", walker.scopes.innermost())
            .is_none_or(|(scope, _)| scope == 0)
            .then(Package::own),
        Expr::Attribute(attribute) if attribute.attr.as_str() == "__path__" => {
            match evaluator.resolved(&attribute.value) {
                Expr::Call(call) if walker.qualified(&call.func).as_deref() == Some("importlib.import_module") => {
                    evaluator.package(argument(call, 0, &["name"])?, evaluator.here())
                }
                module => Package::from_dotted(&walker.qualified(module)?),
            }
        }
        // The folder of the source, or one below it.
        Expr::List(ast::ExprList { elts, .. }) | Expr::Tuple(ast::ExprTuple { elts, .. }) => {
            let [folder] = elts.as_slice() else { return None };
            let folder = evaluator.path(folder)?.finish();
            let module = folder.rest.replace('/', ".");
            (folder.base == Base::Source(1) && (module.is_empty() || is_dotted(&module)))
                .then_some(Package { level: 1, module })
        }
        Expr::Call(call) if walker.qualified(&call.func).as_deref() == Some("builtins.list") => {
            match call.arguments.args.first() {
                Some(inner @ (Expr::Name(_) | Expr::Attribute(_))) => package_of_path(walker, inner),
                _ => None,
            }
        }
        _ => None,
    }
}

impl Package {
    fn own() -> Self {
        Self { level: 1, module: String::new() }
    }

    /// The package that stands so many packages above.
    fn up(mut self, times: usize) -> Option<Self> {
        for _ in 0..times {
            match (self.module.rfind('.'), self.module.is_empty(), self.level) {
                (Some(dot), ..) => self.module.truncate(dot),
                (None, false, level) if level > 0 => self.module.clear(),
                (None, true, level) if level > 0 => self.level = level.checked_add(1)?,
                _ => return None,
            }
        }
        Some(self)
    }
}

impl<'a> Walker<'_, 'a> {
    /// Notes submodules of the own package that are imported when they are asked for.
    fn import_lazily(&mut self, at: TextSize, names: Option<Vec<String>>, how: How) {
        let (line, when) = (self.line(at), self.when().max(When::Lazy));
        self.scan.imports.push(Import { line, module: String::new(), level: 1, names, how, when });
    }

    /// The literal strings of a list or tuple.
    pub(super) fn texts(&self, list: &'a Expr) -> Vec<String> {
        let evaluator = self.evaluator();
        match evaluator.resolved(list) {
            Expr::List(ast::ExprList { elts, .. })
            | Expr::Tuple(ast::ExprTuple { elts, .. })
            | Expr::Set(ast::ExprSet { elts, .. }) => elts.iter().filter_map(|item| evaluator.text_of(item)).collect(),
            _ => Vec::new(),
        }
    }
}
