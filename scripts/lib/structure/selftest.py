"""Sources whose cycles, lengths and parameters are known."""
from . import source
from .cycles import rings
from .tree import of_files

RING = {
    "lib.rs": "mod a;\nmod b;\nmod c;\npub use a::Item;\n",
    "a.rs": "use crate::b::Thing;\npub struct Item;\n",
    "b.rs": "// use crate::c::No;\nuse crate::Item;\npub struct Thing;\n",
    "c.rs": 'const TEXT: &str = "use crate::a::Item;";\n#[cfg(test)]\nmod tests {\n    use crate::b::Thing;\n}\n',
}
DEEP = {
    "lib.rs": "mod a;\nmod b;\n",
    "a/mod.rs": "mod x;\nmod y;\npub use x::X;\n",
    "a/x.rs": "use super::y::{self, Y};\npub struct X;\nfn f() { crate::b::g(); }\n",
    "a/y.rs": "use super::X;\npub struct Y;\n",
    "b.rs": "pub fn g() {}\n#[cfg(test)]\nmod proof;\n",
    "b/proof.rs": "use crate::a::X;\n",
}
FUNCTIONS = """
fn plain(a: i32, b: Vec<(i32, i32)>) -> i32 { a }
impl X {
    fn method<T: Fn(i32, i32) -> i32>(&'a mut self, one: impl Fn(u8, u8) -> u8, two: [u8; 3]) where T: Send {
        let text = "}}}";
        drop('}');
    }
    fn declared(&self, a: i32);
}
"""


def run():
    found = [(parent, names) for parent, names, _ in rings(of_files(RING))]
    assert found == [((), ["a", "b"])], found
    found = [(parent, names) for parent, names, _ in rings(of_files(DEEP))]
    assert found == [(("a",), ["x", "y"])], found
    found = list(source.functions(source.blank(FUNCTIONS)))
    assert found == [("plain", 2, 1, 2), ("method", 4, 4, 2)], found
    print("ok")
    return 0
