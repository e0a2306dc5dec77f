// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {PrepaidItem, Rental, Status, Terms} from "../../src/IEscrow.sol";
import {Batches} from "./Batches.sol";

/// @notice Every way in: paid by the renter, by permits, by authorizations, from the balance; and topping up.
abstract contract Entry is Batches {
    function lock(uint128 seed) external counted("lock") {
        (Terms memory t, uint96 deposit) = _offer(seed, false);
        _lock(t, deposit);
        _useful();
    }

    /// @dev Now and then somebody sends the permit first.
    function lockWithPermit(uint128 seed) external counted("lockWithPermit") {
        (Terms memory t, uint96 deposit) = _offer(seed, true);
        vm.prank(t.renter);
        USDC.approve(address(ESCROW), 0);
        bytes memory signature = _signPermit(t.renter, deposit, _now());
        (bytes32 r, bytes32 s, uint8 v) = _parts(signature);
        if (seed % 4 == 0) USDC.permit(t.renter, address(ESCROW), deposit, _now(), v, r, s);
        _must(t.renter, 0, abi.encodeCall(ESCROW.lockWithPermit, (t, deposit, _now(), v, r, s)));
        vm.prank(t.renter);
        USDC.approve(address(ESCROW), type(uint256).max);
        _remember(t);
        _useful();
    }

    function lockWithAuthorization(uint128 seed) external counted("lockWithAuthorization") {
        (Terms memory t, uint96 deposit) = _offer(seed, true);
        uint256 until = _now() + 1;
        bytes memory signature = _signAuthorization(t.renter, deposit, until, ESCROW.hashTerms(t));
        _must(RELAYER, 0, abi.encodeCall(ESCROW.lockWithAuthorization, (t, deposit, 0, until, signature)));
        _remember(t);
        _useful();
    }

    function lockWithPermit2(uint128 seed) external counted("lockWithPermit2") {
        (Terms memory t, uint96 deposit) = _offer(seed, true);
        // Permit2 asks an account with code for its own answer, never for a key.
        if (t.renter == _renters[2]) t.renter = _renters[0];
        bytes memory signature = _signPermit2(t, deposit, _orders, _now());
        _must(RELAYER, 0, abi.encodeCall(ESCROW.lockWithPermit2, (t, deposit, _orders, _now(), signature)));
        _remember(t);
        _useful();
    }

    function prepay(uint128 seed) external counted("prepay") {
        address token = _openToken(seed);
        address account = seed % 5 == 0 ? _providers[seed % 2] : _renters[seed % 3];
        _prepay(
            seed % 2 == 0 ? RELAYER : _renters[seed % 3], account, token, uint96(_within(_mix(seed, "sum"), 1, 1e20))
        );
        _useful();
    }

    /// @dev By the renter without, or by a relayer with a signature.
    function lockPrepaid(uint128 seed) external counted("lockPrepaid") {
        (Terms memory t, uint96 deposit) = _offer(seed, false);
        _provide(t, deposit);
        bool isRelayed = seed % 2 == 0;
        bytes memory signature = isRelayed ? _signPrepaid(t, deposit) : bytes("");
        _must(isRelayed ? RELAYER : t.renter, 0, abi.encodeCall(ESCROW.lockPrepaid, (t, deposit, signature)));
        _remember(t);
        _useful();
    }

    /// @dev Among good items: one twice, one beyond the balance, one with another amount than was signed.
    function lockBatch(uint128 seed) external counted("lockBatch") {
        uint256 n = seed % 5 + 1;
        PrepaidItem[] memory items = new PrepaidItem[](n + 1);
        bytes[] memory singles = new bytes[](n + 1);
        bytes32[] memory ids = new bytes32[](n + 1);
        for (uint256 i = 0; i <= n; ++i) {
            uint256 spoiled = i == 0 ? 0 : _mix(seed, "spoiled") / (i + 1) % 6;
            if (i == n || spoiled == 1) {
                items[i] = items[i == 0 ? 0 : i - 1];
            } else {
                (Terms memory t, uint96 deposit) = _offer(_mix(seed + i, "item"), false);
                if (spoiled != 2) _provide(t, deposit);
                items[i] = PrepaidItem(t, deposit, _signPrepaid(t, deposit));
                if (spoiled == 3) ++items[i].deposit;
            }
            ids[i] = ESCROW.hashTerms(items[i].terms);
            singles[i] = abi.encodeCall(ESCROW.lockPrepaid, (items[i].terms, items[i].deposit, items[i].signature));
        }
        _batch(RELAYER, abi.encodeCall(ESCROW.lockBatch, (items)), singles, ids);
        for (uint256 i = 0; i <= n; ++i) {
            bool isNew = ESCROW.rental(ids[i]).status == Status.Locked;
            for (uint256 j = 0; j < i && isNew; ++j) {
                isNew = ids[j] != ids[i];
            }
            if (isNew) _remember(items[i].terms);
        }
        _useful();
    }

    function topUp(uint128 seed) external counted("topUp") {
        (bool found, Open memory o, Rental memory r) = _find(_canTopUp, seed);
        if (!found) (o, r) = _newLocked(seed);
        uint96 more = uint96(_within(_mix(seed, "more"), 1, uint256(o.t.pricePerHour) + 1));
        address by = seed % 2 == 0 ? o.t.renter : RELAYER;
        _must(by, o.t.token == NATIVE ? more : 0, abi.encodeCall(ESCROW.topUp, (o.t, more)));
        _useful();
    }

    function _canTopUp(Open memory o, Rental memory r) internal view returns (bool) {
        if (_isPaused(o.t.token)) return false;
        if (r.status == Status.Locked) return _now() <= o.t.startBy + 10 minutes;
        return r.status == Status.Active && _now() < _fundedUntil(o.t, r);
    }

    function _lock(Terms memory t, uint96 deposit) internal {
        _must(t.renter, t.token == NATIVE ? deposit : 0, abi.encodeCall(ESCROW.lock, (t, deposit)));
        _remember(t);
    }

    function _newLocked(uint256 seed) internal returns (Open memory o, Rental memory r) {
        (Terms memory t, uint96 deposit) = _offer(_mix(seed, "new"), false);
        _lock(t, deposit);
        o = _live[_live.length - 1];
        r = ESCROW.rental(o.id);
    }

    /// @dev Terms that can be locked now, and a place for them. Every sixth rental runs for up to a month.
    function _offer(uint256 seed, bool isErc20) internal returns (Terms memory t, uint96 deposit) {
        while (_live.length >= POOL) {
            _retire(_live[_mix(seed, "oldest") % _live.length]);
        }
        uint256 kind = _mix(seed, "kind");
        t = Terms({
            renter: _renters[seed % 3],
            provider: _providers[kind % 2],
            token: isErc20 ? _open(address(USDC)) : _openToken(kind >> 8),
            pricePerHour: _price(_mix(seed, "price")),
            feeBps: uint16(_within(_mix(seed, "fee"), 0, 1500)),
            startBy: _now() + uint40(_within(_mix(seed, "startBy"), 0, kind % 8 == 0 ? 24 hours : 1 hours)),
            holdback: kind % 3 == 0 ? 0 : uint32(_within(_mix(seed, "holdback"), 1, 1 hours)),
            orderHash: bytes32(++_orders)
        });
        uint256 secs = _within(_mix(seed, "secs"), 0, kind % 6 == 0 ? 30 days : 4 hours);
        // forge-lint: disable-next-line(unsafe-typecast) -- at most 30 days at 1e18 an hour
        deposit = uint96(secs * t.pricePerHour / 3600 + _within(seed, 1, 1000));
    }

    /// @dev From a base unit an hour to more than anything costs, and such that divide badly.
    function _price(uint256 seed) private pure returns (uint96) {
        if (seed % 4 == 0) return uint96(_within(seed >> 8, 1, 8000));
        if (seed % 4 == 1) return 3600 * uint96(_within(seed >> 8, 1, 1e6)) + 3599;
        return uint96(_within(seed >> 8, 1, 1e18));
    }

    function _provide(Terms memory t, uint96 deposit) private {
        if (ESCROW.balanceOf(t.renter, t.token) < deposit) _prepay(t.renter, t.renter, t.token, deposit);
    }

    function _prepay(address from, address account, address token, uint96 amount) internal {
        _must(from, token == NATIVE ? amount : 0, abi.encodeCall(ESCROW.prepay, (account, token, amount)));
    }

    function _isPaused(address token) internal view returns (bool paused) {
        (, paused) = ESCROW.tokenState(token);
    }

    function _openToken(uint256 seed) internal returns (address token) {
        token = seed % 2 == 0 ? address(USDC) : NATIVE;
        if (_isPaused(token)) token = token == NATIVE ? address(USDC) : NATIVE;
        return _open(token);
    }

    function _open(address token) private returns (address) {
        if (_isPaused(token)) _must(OWNER, 0, abi.encodeCall(ESCROW.unpauseToken, (token)));
        return token;
    }

    /// @dev The quickest end of an open rental.
    function _retire(Open memory o) private {
        Status status = ESCROW.rental(o.id).status;
        if (status == Status.Locked) _exit(o.t.provider, abi.encodeCall(ESCROW.cancel, (o.t)));
        else if (status == Status.Active) _exit(o.t.renter, abi.encodeCall(ESCROW.stop, (o.t)));
        else _exit(o.t.provider, abi.encodeCall(ESCROW.concede, (o.t)));
        _tidy();
    }

    function _parts(bytes memory signature) private pure returns (bytes32 r, bytes32 s, uint8 v) {
        assembly ("memory-safe") {
            r := mload(add(signature, 0x20))
            s := mload(add(signature, 0x40))
            v := byte(0, mload(add(signature, 0x60)))
        }
    }
}
