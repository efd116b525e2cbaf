// What verdicts and reasons mean. The names are those of the report's JSON.

const VERDICTS = ["kept", "compacted", "cold", "stand-in", "dropped", "own"];

const VERDICT_MEANS = {
  kept: "in the layer as it is, or as bytecode",
  compacted: "a shared library in the layer without the pages that no event touched",
  cold: "compressed in the layer, for whoever asks for it",
  "stand-in": "another module stands in for it, and loads it if that does not do",
  dropped: "not in the layer",
  own: "brought by the layer itself",
};

const REASON_MEANS = {
  TRACED: "The traced run used it.",
  PACKAGE: "It makes a folder with a kept file in it a package.",
  NEEDED: "A kept shared library is linked against it.",
  METADATA: "The run looked up this distribution's metadata.",
  PICKLED: "A model names a class or function of it.",
  RULE: "A rule about its distribution keeps it.",
  STATIC: "Kept code could import it.",
  INCLUDED: "An option keeps it.",
  STARTUP: "Python reads it when it starts, and its distribution is used.",
  LINKED: "A kept symbolic link leads to it.",
  REPAIRED: "The run on the layer alone asked for it, so it was put back.",
  STAND_IN: "It is imported, and nothing of it was needed.",
  ASLEEP: "Only modules that others stand in for import it.",
  LOADABLE: "Code in C could open it by its path, where nothing would restore it.",
  REACHABLE: "Nothing asked for its distribution, but code in the layer names that.",
  UNTOUCHED: "Nothing asked for it, but for other files of its distribution.",
  DEVELOPMENT: "Only a compiler, a shell or a test runner reads it.",
  UNUSED: "Nothing asked for it, nor for its distribution.",
  EXCLUDED: "An option leaves it out.",
  PROVIDED: "Another layer, or Lambda itself, brings it.",
  SCANNED: "It was read only because all installed distributions were listed.",
  IDLE: "Python reads it when it starts, but nothing of its distribution is used.",
  SHADOWED: "A folder earlier on sys.path has a file of this name, which Python finds.",
};

const NO_DISTRIBUTION = "(no distribution)";
const OWN = "(brought by the layer)";
