"""Ten widely used distributions: replaced by stand-ins if imported but unused, and loaded with full function on use."""

import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.payload.standing_in import Modules

pytestmark = pytest.mark.example
REQUIREMENTS = """
jinja2==3.1.4
lxml==5.3.0
matplotlib==3.9.2
networkx==3.4.2
numpy==2.1.3
pandas==2.2.3
requests==2.32.3
rich==13.9.4
scikit-learn==1.5.2
scipy==1.14.1
sympy==1.13.3
"""


@dataclass(frozen=True)
class Case:
    """Code that uses a distribution: ``imports`` bind names, ``uses`` are run after them."""

    imports: str
    uses: str


CASES = {
    "pandas": Case(
        """
        import pandas
        import pandas as pd
        from pandas import DataFrame, Series, Index
        from pandas.api.types import is_numeric_dtype
        from pandas.core.groupby import DataFrameGroupBy
        version = pd.__version__
        def f(frame: DataFrame, more: "pd.Series | None" = None) -> Series: pass
        known = (DataFrame, Series, int)
        print(version, isinstance([1], DataFrame), isinstance(3, known))
        """,
        """
        import pickle, io
        import pandas.io.json
        frame = pd.DataFrame({"k": list("abab"), "v": [1.5, 2, 3, 4]})
        means = frame.groupby("k").v.mean()
        print(means.to_dict(), isinstance(frame, DataFrame), isinstance(means, known), type(means) is Series)
        print(pickle.loads(pickle.dumps(frame)).equals(frame), is_numeric_dtype(frame.v))
        print(f.__annotations__["frame"] is DataFrame)
        print(isinstance(frame.groupby("k"), DataFrameGroupBy), pd.read_csv(io.StringIO("a,b\\n1,2\\n")).to_json())
        print(pd.to_datetime("2020-02-03") + pd.Timedelta(days=1), pandas.io.json.ujson_loads("[1]"))
        class Mine(DataFrame):
            @property
            def _constructor(self): return Mine
        print(type(Mine({"a": [1]}).head()).__name__, issubclass(Mine, pd.DataFrame), isinstance(Index([1]), pd.Index))
        """,
    ),
    "scipy": Case(
        """
        import scipy
        import scipy.sparse as sp
        from scipy import ndimage, optimize, stats
        from scipy.sparse import csr_matrix, issparse
        from scipy.optimize import minimize
        print(scipy.__version__, isinstance(3, csr_matrix), stats.__name__)
        """,
        """
        import pickle, numpy as np
        import scipy.interpolate
        eye = sp.eye(3, format="csr")
        again = pickle.loads(pickle.dumps(csr_matrix(eye)))
        print(issparse(eye), isinstance(again, csr_matrix), again.toarray().tolist(), sp.csr_matrix is csr_matrix)
        print(round(float(minimize(lambda x: (x[0] - 2) ** 2, [0.0]).x[0]), 4), round(float(stats.norm.cdf(1)), 6))
        print(ndimage.gaussian_filter(np.eye(3), 1).round(5).tolist())
        print(optimize.root_scalar(lambda x: x - 1, bracket=(0, 3)).root)
        print(float(scipy.interpolate.CubicSpline([0, 1, 2], [0, 1, 4])(1.5)), scipy.linalg.det(np.eye(2)))
        """,
    ),
    "sklearn": Case(
        """
        import sklearn
        from sklearn.linear_model import LogisticRegression
        from sklearn.metrics import accuracy_score
        from sklearn.model_selection import train_test_split
        from sklearn import preprocessing, utils
        print(sklearn.__version__, isinstance(1, LogisticRegression), preprocessing.__name__)
        """,
        """
        import pickle, numpy as np
        from sklearn.base import BaseEstimator, clone
        from sklearn.ensemble import RandomForestClassifier
        rng = np.random.default_rng(0)
        x = rng.normal(size=(60, 3))
        y = (x[:, 0] > 0).astype(int)
        a, b, c, d = train_test_split(x, y, random_state=0)
        model = pickle.loads(pickle.dumps(LogisticRegression().fit(a, c)))
        print(accuracy_score(d, model.predict(b)), isinstance(model, LogisticRegression))
        print(isinstance(model, BaseEstimator))
        print(type(clone(model)) is LogisticRegression, model.coef_.round(4).tolist())
        print(RandomForestClassifier(5, random_state=0).fit(a, c).predict(b).tolist())
        print(preprocessing.StandardScaler().fit_transform(x)[0].round(5).tolist())
        class Mine(BaseEstimator):
            def __init__(self, n=1): self.n = n
        import sklearn.cluster
        print(clone(Mine(4)).get_params(), sklearn.cluster.KMeans(2, n_init=1, random_state=0).fit(x).labels_.tolist())
        """,
    ),
    "matplotlib": Case(
        """
        import matplotlib as mpl
        import matplotlib.pyplot as plt
        from matplotlib import cm, patches
        from matplotlib.figure import Figure
        from matplotlib.patches import Rectangle
        from matplotlib.pyplot import subplots
        print(mpl.__name__, isinstance(1, Figure))
        """,
        """
        import pickle
        mpl.use("agg")
        import matplotlib.ticker
        figure, axes = plt.subplots()
        line, = axes.plot([1, 2], [3, 4])
        box = axes.add_patch(Rectangle((0, 0), 1, 1))
        figure.canvas.draw()
        print(isinstance(figure, Figure), isinstance(box, patches.Rectangle), Rectangle is patches.Rectangle)
        print(pickle.loads(pickle.dumps(box)).get_width(), isinstance(pickle.loads(pickle.dumps(figure)), Figure))
        print(bytes(figure.canvas.buffer_rgba())[:40].hex(), hash(bytes(figure.canvas.buffer_rgba()).count(b"\\xff")))
        print(line.get_color(), cm.viridis(0.5))
        print(matplotlib.ticker.MaxNLocator(4).tick_values(0, 10).tolist(), mpl.rcParams["lines.linewidth"])
        """,
    ),
    "sympy": Case(
        """
        import sympy
        import sympy as sy
        from sympy import Matrix, expand, symbols, sympify
        from sympy.core import Expr
        from sympy.core import Basic
        print(sympy.__version__, isinstance(1, Expr))
        """,
        """
        import pickle
        from sympy import Symbol, integrate, latex, sin
        import sympy.stats
        x, y = symbols("x y")
        result = integrate(sin(x) ** 2, x)
        print(result, latex(result), isinstance(result, Expr), type(x) is Symbol)
        print(pickle.loads(pickle.dumps(result)) == result, sympy.pretty(x ** 2))
        print(sympify("x**2").diff(x), Matrix([[1, 2], [3, x]]).det())
        print(isinstance(Matrix([1]), Matrix), isinstance(x, Basic))
        print(sy.solve(x ** 2 - 4, x), expand((x + y) ** 2), sympy.stats.E(sympy.stats.Die("d", 6)))
        """,
    ),
    "networkx": Case(
        """
        import networkx as nx
        import networkx
        from networkx import DiGraph, Graph
        from networkx.algorithms import bipartite
        from networkx.readwrite import json_graph
        def walk(graph: Graph) -> "nx.Graph": return graph
        print(nx.__version__, isinstance([], Graph))
        """,
        """
        import pickle
        graph = nx.path_graph(4)
        again = pickle.loads(pickle.dumps(graph))
        print(nx.shortest_path(graph, 0, 3), isinstance(graph, Graph), type(again) is nx.Graph, sorted(again.edges))
        print(bipartite.is_bipartite(graph), json_graph.node_link_data(graph, edges="links")["links"])
        print(nx.pagerank(DiGraph([(1, 2)]))[1] < 0.5)
        class Mine(Graph): pass
        print(isinstance(Mine().copy(), Graph), issubclass(Mine, nx.Graph), walk.__annotations__["graph"] is nx.Graph)
        try:
            nx.shortest_path(graph, 0, 9)
        except nx.NodeNotFound as exc:
            print(exc)
        """,
    ),
    "requests": Case(
        """
        import requests
        from requests import Session, get
        from requests.adapters import HTTPAdapter
        from requests.auth import HTTPBasicAuth
        import requests.exceptions
        print(requests.__version__, isinstance(1, Session))
        """,
        """
        import pickle
        from requests.structures import CaseInsensitiveDict
        session = Session()
        class Here(HTTPAdapter):
            def send(self, request, **more):
                response = requests.Response()
                response.status_code, response._content = 404, b'{"a": 1}'
                response.url, response.request = request.url, request
                response.headers = CaseInsensitiveDict({"X": request.headers["Authorization"]})
                return response
        session.mount("http://", Here())
        answer = session.get("http://x.invalid/y", params={"q": "1 2"}, auth=HTTPBasicAuth("u", "p"))
        print(answer.json(), answer.url, answer.headers["x"], isinstance(answer, requests.Response))
        print(isinstance(session, requests.Session))
        print(pickle.loads(pickle.dumps(answer)).json(), isinstance(pickle.loads(pickle.dumps(session)), Session))
        try:
            answer.raise_for_status()
        except requests.exceptions.HTTPError as exc:
            print(exc, isinstance(exc, requests.RequestException), get is requests.get is requests.api.get)
        """,
    ),
    "jinja2": Case(
        """
        import jinja2
        from jinja2 import Environment, FileSystemLoader, Template, select_autoescape
        from jinja2.sandbox import SandboxedEnvironment
        from jinja2.runtime import Context
        print(jinja2.__name__, isinstance(1, Environment))
        """,
        """
        import pickle
        from jinja2 import nodes
        from jinja2.ext import Extension
        loader = jinja2.DictLoader({"a": "<b>{{ x }}"})
        environment = Environment(autoescape=select_autoescape(default=True), loader=loader)
        print(environment.get_template("a").render(x="<i>"), isinstance(environment, Environment))
        print(Template("{% for i in r %}{{ loop.index }}{{ i|upper }}{% endfor %}").render(r="ab"))
        print(isinstance(SandboxedEnvironment(), jinja2.Environment))
        print(environment.parse("{{ a }}").find(nodes.Name).name)
        class Tag(Extension):
            tags = {"t"}
            def parse(self, parser): return nodes.Output([nodes.TemplateData("tag")], lineno=next(parser.stream).lineno)
        print(Environment(extensions=[Tag]).from_string("{% t %}").render())
        print(pickle.loads(pickle.dumps(Environment)) is Environment)
        try:
            environment.from_string("{% x %}")
        except jinja2.TemplateSyntaxError as exc:
            print(exc)
        print(isinstance(Template("x").new_context(), Context))
        """,
    ),
    "rich": Case(
        """
        import rich
        from rich.console import Console
        from rich.progress import Progress, track
        from rich.table import Table
        from rich.text import Text
        from rich import print as show
        print(rich.__name__, isinstance(1, Console))
        """,
        """
        import io, pickle
        from rich.markdown import Markdown
        table = Table(title="T")
        table.add_column("a")
        table.add_row("[bold]1[/]")
        out = io.StringIO()
        console = Console(file=out, width=40, force_terminal=True, color_system="standard")
        console.print(table, Markdown("# h\\n* i"), Text("x", style="red"))
        print(repr(out.getvalue()), isinstance(console, Console), isinstance(rich.get_console(), Console))
        text = pickle.loads(pickle.dumps(Text("bold", "bold")))
        print(text.markup, type(text) is Text, [n for n in track(range(2), console=console)])
        print(isinstance(Progress(), Progress))
        show("[red]shown[/]")
        """,
    ),
    "lxml": Case(
        """
        import lxml
        import lxml.etree
        from lxml import etree, html
        import lxml.html.defs
        print(lxml.__name__, etree.__name__)
        """,
        """
        import io, pickle
        import lxml.objectify
        from lxml.html import HtmlElement, fromstring
        root = etree.fromstring("<a><b x='1'>t</b></a>")
        print(etree.tostring(root), root.xpath("//b/@x"), isinstance(root, etree._Element), etree is lxml.etree)
        page = fromstring("<div><p class=c>hi</p></div>")
        print(isinstance(page, HtmlElement), page.find_class("c")[0].text, html.tostring(page))
        thing = lxml.objectify.fromstring("<r><n>5</n></r>")
        print(thing.n + 1, pickle.loads(pickle.dumps(thing)).n == 5, isinstance(thing.n, lxml.objectify.IntElement))
        try:
            etree.fromstring("<a>")
        except etree.XMLSyntaxError as exc:
            print(type(exc).__name__, isinstance(exc, SyntaxError))
        """,
    ),
}


@pytest.fixture(scope="module")
def python(requirements_env: Callable[[str, Path], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an environment with all of the distributions."""
    requirements = tmp_path_factory.mktemp("standins") / "requirements.txt"
    requirements.write_text(REQUIREMENTS.lstrip())
    return requirements_env("standins", requirements)


@pytest.mark.parametrize("name", CASES)
def test_sleeps_until_it_is_used(name: str, python: Path, tmp_path: Path) -> None:
    case = CASES[name]
    imports, uses = textwrap.dedent(case.imports), textwrap.dedent(case.uses)
    (site,) = python.parent.parent.glob("lib/python*/site-packages")
    settings = {"MPLCONFIGDIR": str(tmp_path / "settings"), "OMP_NUM_THREADS": "1", "HOME": str(tmp_path)}
    modules = Modules(str(python), site, tmp_path / "scratch", timeout=300, environment=settings)
    modules.describe((), program=imports)
    modules.tables = {key: table for key, table in modules.tables.items() if key.partition(".")[0] == name}
    assert modules.honest(imports) == set()
    assert name in {each.partition(".")[0] for each in modules.honest(imports + uses)}
