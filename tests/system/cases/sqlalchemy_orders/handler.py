"""Orders in a database: SQLite here, PostgreSQL in production, whose driver is installed and idle."""

from sqlalchemy import Column, ForeignKey, Integer, String, create_engine, func, select
from sqlalchemy.orm import Session, declarative_base, relationship

Base = declarative_base()


class Customer(Base):
    __tablename__ = "customer"
    id = Column(Integer, primary_key=True)
    name = Column(String(40), nullable=False)
    orders = relationship("Order", back_populates="customer")


class Order(Base):
    __tablename__ = "orders"
    id = Column(Integer, primary_key=True)
    cents = Column(Integer, nullable=False)
    customer_id = Column(ForeignKey("customer.id"))
    customer = relationship("Customer", back_populates="orders")


def handler(event, context):
    url = event.get("url", "sqlite://")
    if event.get("ask") == "compile":
        from sqlalchemy.dialects import mysql, postgresql

        dialect = {"postgresql": postgresql, "mysql": mysql}[event["dialect"]].dialect()
        return str(select(Order).where(Order.cents > 5).limit(3).compile(dialect=dialect))
    engine = create_engine(url)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        for name, orders in event["customers"].items():
            session.add(Customer(name=name, orders=[Order(cents=cents) for cents in orders]))
        session.commit()
        if event.get("ask") == "eager":
            from sqlalchemy.orm import selectinload

            found = session.scalars(select(Customer).options(selectinload(Customer.orders)).order_by(Customer.name))
            return {c.name: [o.cents for o in c.orders] for c in found}
        query = select(Customer.name, func.sum(Order.cents)).join(Order).group_by(Customer.name)
        return dict(session.execute(query.order_by(Customer.name)).all())
