//! Paths that calls, methods and lookups compute: `os.path`, `pathlib`, `inspect`, `importlib.resources`.

use ruff_python_ast::{self as ast, Expr};

use super::constants::has_mark;
use super::evaluate::{At, Evaluator, Piece, Value, argument, small_number};
use super::place::Place;
use super::{Base, Package, resources};

impl<'a> Evaluator<'_, 'a> {
    pub(super) fn subscript(&self, subscript: &'a ast::ExprSubscript, at: At) -> Option<Piece> {
        let index = small_number(&subscript.slice)?;
        match subscript.value.as_ref() {
            Expr::Attribute(attribute) if attribute.attr.as_str() == "parents" => {
                let place = self.place(&attribute.value, at).filter(|place| place.is_object)?;
                (0..=index).try_fold(place, |place, _| place.parent()).map(Piece::Place)
            }
            Expr::Call(call) if self.qualified(&call.func, at).as_deref() == Some("os.path.split") => {
                let place = self.place(argument(call, 0, &["p"])?, at)?;
                match index {
                    0 => place.parent().map(Piece::Place),
                    1 => place.name().map(|name| Piece::Text(name.to_owned())),
                    _ => None,
                }
            }
            Expr::Call(call) if self.qualified(&call.func, at).as_deref() == Some("os.path.splitext") => {
                let place = self.place(argument(call, 0, &["p"])?, at)?;
                let stem = place.rest.rsplit_once('.').filter(|_| index == 0 && place.name().is_some())?.0.to_owned();
                Some(Piece::Place(Place { rest: stem, ..place }))
            }
            Expr::Attribute(_) | Expr::Name(_) if index == 0 && self.is_of_main(&subscript.value, at).is_some() => {
                self.is_of_main(&subscript.value, at).map(|up| Piece::Place(Place::at(Base::Main(up))))
            }
            Expr::Name(name) if name.id.as_str() == "__path__" && index == 0 => {
                self.scopes.lookup("__path__", at.scope).is_none().then(|| Piece::Place(Place::at(Base::Source(1))))
            }
            _ => None,
        }
    }

    /// Whether the first item of a list belongs to the main program: its file, or its folder.
    fn is_of_main(&self, list: &Expr, at: At) -> Option<u32> {
        match self.qualified(list, at).as_deref() {
            Some("sys.argv") => Some(0),
            Some("sys.path") => Some(1),
            _ => None,
        }
    }

    pub(super) fn call(&self, call: &'a ast::ExprCall, at: At) -> Option<Piece> {
        let arguments = &call.arguments;
        if let Expr::Attribute(attribute) = call.func.as_ref()
            && let Some(piece) = self.method(attribute, arguments, at)
        {
            return Some(piece);
        }
        let first = argument(call, 0, &["path", "p", "filename", "object", "args"]);
        let name = self.qualified(&call.func, at)?;
        let name = name.strip_prefix("posixpath.").map(|rest| format!("os.path.{rest}")).unwrap_or(name);
        let place = match name.as_str() {
            "pathlib.Path"
            | "pathlib.PurePath"
            | "pathlib.PosixPath"
            | "pathlib.PurePosixPath"
            | "pathlib.WindowsPath"
            | "pathlib.PureWindowsPath" => {
                let place = Place { is_object: true, ..Place::at(Base::Working) };
                self.joined(place, &arguments.args, at)?
            }
            "os.path.join" => {
                let (first, rest) = arguments.args.split_first()?;
                let first = match self.value(first, at)? {
                    Value::Place(place) => place,
                    Value::Text(text) => Place::from_text(&text, self.is_windows())?,
                    Value::Python => return None,
                };
                Place { is_object: false, ..self.joined(first, rest, at)? }
            }
            "os.path.dirname" => match self.value(first?, at)? {
                // Of another module's value the folder is not known.
                Value::Text(text) if has_mark(text.rsplit('/').next().unwrap_or_default()) => return None,
                Value::Text(text) => {
                    let folder = text.rsplit_once('/').map_or("", |(folder, _)| folder);
                    return Some(Piece::Text(
                        if folder.is_empty() && text.starts_with('/') { "/" } else { folder }.into(),
                    ));
                }
                Value::Place(place) => place.parent()?,
                Value::Python => return None,
            },
            "os.path.basename" => return Some(Piece::Text(self.place(first?, at)?.name()?.to_owned())),
            "os.path.abspath" | "os.path.realpath" => match self.value(first?, at)? {
                Value::Place(place) => place,
                Value::Text(text) => Place::from_text(&text, self.is_windows())?,
                Value::Python => return None,
            }
            .resolve(),
            "os.path.normpath" => Place { is_resolved: false, ..self.place(first?, at)?.resolve() },
            "os.path.expanduser" | "os.path.expandvars" | "os.path.normcase" | "os.fspath" | "builtins.str"
            | "os.fsdecode" => {
                let piece = match self.value(first?, at.formatted(name == "builtins.str"))? {
                    Value::Place(place) => Piece::Place(Place { is_object: false, ..place }),
                    Value::Text(text) if text.contains(['~', '$']) => return None,
                    Value::Text(text) => Piece::Text(text),
                    Value::Python => Piece::Python,
                };
                return Some(piece);
            }
            "os.getcwd" | "os.getcwdb" => Place { is_resolved: true, ..Place::at(Base::Working) },
            "pathlib.Path.cwd" => Place { is_resolved: true, is_object: true, ..Place::at(Base::Working) },
            "inspect.getfile" | "inspect.getsourcefile" | "inspect.getabsfile" => match first? {
                Expr::Call(inner) if self.qualified(&inner.func, at).as_deref() == Some("inspect.currentframe") => {
                    Place::at(Base::Source(0))
                }
                Expr::Lambda(_) => Place::at(Base::Source(0)),
                _ => return None,
            },
            "importlib.resources.files" | "importlib_resources.files" => {
                let package = match argument(call, 0, &["anchor", "package"]) {
                    Some(package) => self.package(package, at)?,
                    None => Package { level: 1, module: String::new() },
                };
                Place { is_object: true, package: Some(package), ..Place::at(Base::Package) }
            }
            "importlib.resources.as_file" | "importlib_resources.as_file" => self.place(first?, at)?,
            name if resources::is_function(name) => resources::place(self, call, name, at)?,
            _ => return None,
        };
        Some(Piece::Place(place))
    }

    fn method(&self, attribute: &'a ast::ExprAttribute, arguments: &'a ast::Arguments, at: At) -> Option<Piece> {
        let name = attribute.attr.as_str();
        if !matches!(
            name,
            "resolve"
                | "absolute"
                | "joinpath"
                | "with_name"
                | "with_suffix"
                | "with_stem"
                | "expanduser"
                | "as_posix"
                | "__str__"
        ) {
            return None;
        }
        let place = match self.value(&attribute.value, at)? {
            Value::Place(place) => place,
            Value::Text(text) => self.marked(&text)?,
            Value::Python => return None,
        };
        if !place.is_object {
            return None;
        }
        let text = || match self.value(arguments.args.first()?, at)? {
            Value::Text(text) if !text.contains('/') => Some(text),
            _ => None,
        };
        let place = match name {
            "resolve" => place.resolve(),
            "absolute" => Place { is_resolved: true, ..place },
            "joinpath" => self.joined(place, &arguments.args, at)?,
            "with_name" => {
                let mut place = place.parent()?;
                place.push(&text()?, self.is_windows());
                place
            }
            "with_suffix" | "with_stem" => {
                let old = place.name()?.to_owned();
                let (stem, suffix) = match old.rfind('.').filter(|dot| *dot > 0) {
                    Some(dot) => old.split_at_checked(dot)?,
                    None => (old.as_str(), ""),
                };
                let new = text()?;
                let mut place = place.parent()?;
                let new = if name == "with_stem" { format!("{new}{suffix}") } else { format!("{stem}{new}") };
                place.push(&new, self.is_windows());
                place
            }
            "as_posix" | "__str__" => Place { is_object: false, ..place },
            _ => place,
        };
        Some(Piece::Place(place))
    }

    fn joined(&self, mut place: Place, more: &'a [Expr], at: At) -> Option<Place> {
        for (number, expr) in more.iter().enumerate() {
            match self.value(expr, at)? {
                Value::Text(text) => place.join(&Place::from_text(&text, self.is_windows())?, self.is_windows()),
                Value::Place(other) if number == 0 && place.rest.is_empty() && place.base == Base::Working => {
                    place = Place { is_object: place.is_object, ..other };
                }
                Value::Place(other) => place.join(&other, self.is_windows()),
                Value::Python => return None,
            }
        }
        Some(place)
    }

    /// The package that an expression names or is.
    pub(super) fn package(&self, expr: &'a Expr, at: At) -> Option<Package> {
        let mut pieces = self.pieces(expr, at).into_iter();
        match (pieces.next(), pieces.next()) {
            (Some(Piece::OwnPackage), None) => Some(Package { level: 1, module: String::new() }),
            (Some(Piece::OwnPackage), Some(Piece::Text(rest))) if pieces.next().is_none() => {
                Some(Package { level: 1, module: rest.strip_prefix('.')?.to_owned() })
            }
            (Some(Piece::Text(text)), None) if has_mark(&text) => {
                Package::from_dotted(self.qualified(expr, at)?.as_str())
            }
            (Some(Piece::Text(text)), None) => Package::from_dotted(&text),
            (Some(Piece::Hole), None) => Package::from_dotted(self.qualified(expr, at)?.as_str()),
            _ => None,
        }
    }
}
