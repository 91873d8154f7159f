fn main() {
    cc::Build::new().file("c/w2s.c").include("c").opt_level(3).compile("w2s");
    println!("cargo:rerun-if-changed=c");
}
