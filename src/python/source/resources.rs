//! Files of a package that are asked for by the package's name.

use ruff_python_ast as ast;

use super::Base;
use super::evaluate::{At, Evaluator, argument};
use super::place::Place;

/// Whether a function takes a package and the name of a file in it.
pub(super) fn is_function(name: &str) -> bool {
    matches!(
        name,
        "pkgutil.get_data"
            | "pkg_resources.resource_filename"
            | "pkg_resources.resource_string"
            | "pkg_resources.resource_stream"
    ) || function_of_resources(name)
        .is_some_and(|function| matches!(function, "read_text" | "read_binary" | "open_text" | "open_binary" | "path"))
}

fn function_of_resources(name: &str) -> Option<&str> {
    name.strip_prefix("importlib.resources.").or_else(|| name.strip_prefix("importlib_resources."))
}

/// The place that a call of such a function means.
pub(super) fn place<'a>(evaluator: &Evaluator<'_, 'a>, call: &'a ast::ExprCall, name: &str, at: At) -> Option<Place> {
    let package = argument(call, 0, &["package", "anchor", "package_or_requirement"])?;
    let resource = argument(call, 1, &["resource", "resource_name"])?;
    let package = evaluator.package(package, at)?;
    let mut place = Place { package: Some(package), ..Place::at(Base::Package) };
    let resource = evaluator.place(resource, at).filter(|resource| resource.base == Base::Working)?;
    place.push(&resource.rest, evaluator.is_windows());
    place.is_object = name.ends_with(".path");
    Some(place)
}
