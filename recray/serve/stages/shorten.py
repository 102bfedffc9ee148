"""The last word on a list: so many items as were asked for."""

from recray.serve.state import RequestState


class Shorten:
    """Leaves the first ``query.k`` items."""

    def __call__(self, state: RequestState) -> RequestState:
        k, drawn_S = state.query.k, state.propensities_S
        return state._replace(
            order_S=state.order_S[:k], propensities_S=None if drawn_S is None else drawn_S[:k]
        )
