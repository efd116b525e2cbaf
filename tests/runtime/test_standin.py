from .standing_in import Modules
def test_x(): print(Modules.__module__)
