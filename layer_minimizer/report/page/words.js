// The meanings of verdicts and reasons. The names are those of the report's JSON.

const VERDICTS = ["kept", "compacted", "cold", "stand-in", "dropped", "own"];

const VERDICT_MEANS = {
  kept: "in the layer as it is, or as bytecode",
  compacted: "a shared library in the layer without the pages that no event used",
  cold: "compressed in the layer, and restored on demand",
  "stand-in": "replaced by a small module that loads the real one if needed",
  dropped: "not in the layer",
  own: "added by layer_minimizer",
};

const REASON_MEANS = {
  TRACED: "The traced run used it.",
  PACKAGE: "It makes the folder of a kept file a package.",
  NEEDED: "A kept shared library is linked against it.",
  METADATA: "The run looked up this distribution's metadata.",
  PICKLED: "A model refers to a class or function in it.",
  STATIC: "Kept code could import it.",
  INCLUDED: "An option keeps it.",
  STARTUP: "Python reads it when it starts, and its distribution is used.",
  LINKED: "A kept symbolic link points to it, or it is a copy of a kept library and a link to it in the layer.",
  REPAIRED: "The run on the layer alone needed it, so it was added.",
  LICENSE: "License text or metadata of a distribution of which something is in the layer.",
  STAND_IN: "It is imported, but nothing in it was needed.",
  ASLEEP: "Only modules replaced by stand-ins import it.",
  REACHABLE: "Its distribution was not used, but a used one requires it, or code in the layer refers to it.",
  UNTOUCHED: "It was not used, but other files of its distribution were.",
  GPU: "For a GPU, and the run did not use it.",
  DEVELOPMENT: "Only a compiler or a test runner reads it.",
  UNUSED: "Neither it nor its distribution was used.",
  EXCLUDED: "An option leaves it out.",
  PROVIDED: "Another layer, or Lambda itself, contains it.",
  SCANNED: "It was read only because all installed distributions were listed.",
  IDLE: "Python reads it when it starts, but nothing of its distribution is used.",
  SHADOWED: "A folder earlier on sys.path has a file of this name, which Python finds.",
};

const NO_DISTRIBUTION = "(no distribution)";
const OWN = "(added by layer_minimizer)";
