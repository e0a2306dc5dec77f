// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {EndSignatures, IEscrow, Outcome, Status, Terms} from "../src/IEscrow.sol";
import {Signing} from "./Signing.sol";
import {SigningWallet} from "./mocks/SigningWallet.sol";

/// @notice A hot key that may stop, contest, dispute, concede and sign ends for an account, and never takes money.
contract AgentsTest is Signing {
    uint40 private constant UNTIL = T0 + 1 days;
    address private _agent = makeAddr("agent");

    function test_SetAgent() public {
        vm.expectEmit(address(escrow));
        emit IEscrow.AgentSet(renter, _agent, UNTIL);
        _appoint(renter, _agent, UNTIL);
        (address agent, uint40 expiresAt) = escrow.agentOf(renter);
        assertEq(agent, _agent);
        assertEq(expiresAt, UNTIL);
        _appoint(renter, stranger, T0);
        (agent, expiresAt) = escrow.agentOf(renter);
        assertEq(agent, stranger, "replaced");
        vm.expectEmit(address(escrow));
        emit IEscrow.AgentSet(renter, address(0), 0);
        _appoint(renter, address(0), 0);
        (agent, expiresAt) = escrow.agentOf(renter);
        assertEq(agent, address(0), "revoked");
        assertEq(expiresAt, 0);
    }

    function test_SetAgent_Refusals() public {
        _refused(renter, abi.encodeCall(escrow.setAgent, (_agent, T0 - 1)), IEscrow.AgentExpiryInPast.selector);
        _refused(renter, abi.encodeCall(escrow.setAgent, (_agent, 0)), IEscrow.AgentExpiryInPast.selector);
        _refused(renter, abi.encodeCall(escrow.setAgent, (address(0), UNTIL)), IEscrow.AgentExpiryInPast.selector);
    }

    function test_Agent_Stops_Until_PlusMinusOne() public {
        Terms memory t = _running();
        _appoint(renter, _agent, T0 + 1000);
        vm.warp(T0 + 1001);
        _refused(_agent, abi.encodeCall(escrow.stop, (t)), IEscrow.NotRenterOrProvider.selector);
        vm.warp(T0 + 1000);
        bytes32 id = escrow.hashTerms(t);
        vm.expectEmit(address(escrow));
        emit IEscrow.Closed(id, Outcome.StoppedByRenter, 1000, 900_000, 100_000, 9_000_000, true);
        _stop(t, _agent);
        assertEq(usdc.balanceOf(renter), 1e12 - 1_000_000, "the refund is the renter's");
        assertEq(usdc.balanceOf(_agent), 0, "not the agent's");
    }

    function test_Agent_OfProvider_StopsAsProvider() public {
        Terms memory t = _running();
        _appoint(provider, _agent, UNTIL);
        skip(1000);
        _stop(t, _agent);
        assertEq(escrow.rental(escrow.hashTerms(t)).claimSecs, 600, "the holdback is held");
        assertEq(escrow.balanceOf(provider, address(usdc)), 360_000, "the provider is credited");
        assertEq(escrow.balanceOf(_agent, address(usdc)), 0, "not the agent");
    }

    function test_Agent_ContestsAndConcedes() public {
        Terms memory t = _running();
        skip(1000);
        _refused(_agent, abi.encodeCall(escrow.contest, (t, 100)), IEscrow.NotRenter.selector);
        _appoint(provider, _agent, UNTIL);
        _refused(_agent, abi.encodeCall(escrow.contest, (t, 100)), IEscrow.NotRenter.selector);
        _appoint(renter, _agent, UNTIL);
        vm.prank(_agent);
        escrow.contest(t, 100);
        // Of both sides it speaks for the renter; of the provider alone it gives the held seconds up.
        _appoint(renter, address(0), 0);
        bytes32 id = escrow.hashTerms(t);
        vm.expectEmit(address(escrow));
        emit IEscrow.Closed(id, Outcome.Conceded, 900, 0, 0, 100_000, true);
        vm.prank(_agent);
        escrow.concede(t);
    }

    function test_Agent_SignsEnds_Until_PlusMinusOne() public {
        Terms memory t = _running();
        _appoint(renter, _agent, T0 + 1000);
        _appoint(provider, _agent, T0 + 1000);
        vm.warp(T0 + 1000);
        bytes memory signature = _signature(_key("agent"), _endDigest(t, T0 + 1000, 50));
        vm.warp(T0 + 1001);
        vm.prank(operator);
        vm.expectRevert(IEscrow.BadSignature.selector);
        escrow.close(t, T0 + 1000, 50, EndSignatures(signature, ""));
        vm.warp(T0 + 1000);
        _close(t, T0 + 1000, 50, EndSignatures(signature, signature));
        _assertEnded(escrow.hashTerms(t));
        _assertBalances(855_000, 95_000, 950_000);
    }

    /// @dev An agent is a key: no code is asked for it, so that a batch asks two wallets for an item and no more.
    function test_Agent_SmartWallet_SignsNoEnds() public {
        Terms memory t = _running();
        SigningWallet wallet = new SigningWallet(stranger);
        wallet.setManner(SigningWallet.Manner.AnswersAnything);
        _appoint(renter, address(wallet), UNTIL);
        bytes memory signature = _signature(_key("stranger"), _endDigest(t, T0, 0));
        bytes memory input = abi.encodeCall(escrow.close, (t, T0, 0, EndSignatures(signature, "")));
        _refused(operator, input, IEscrow.BadSignature.selector);
        // But it may call.
        _stop(t, address(wallet));
        _assertEnded(escrow.hashTerms(t));
    }

    function test_Agent_Disputes() public {
        Terms memory t = _running();
        skip(1000);
        _close(t, T0 + 1000, 50);
        bytes memory input = abi.encodeCall(escrow.dispute, (t));
        _refused(_agent, input, IEscrow.NotRenterOrProvider.selector);
        _appoint(provider, _agent, UNTIL);
        bytes32 id = escrow.hashTerms(t);
        vm.expectEmit(address(escrow));
        emit IEscrow.Disputed(id, provider, T0 + 1000 + 15 days);
        vm.prank(_agent);
        escrow.dispute(t);
        // An agent of both speaks for the renter.
        _appoint(renter, _agent, UNTIL);
        vm.expectEmit(address(escrow));
        emit IEscrow.Disputed(id, renter, T0 + 1000 + 15 days);
        vm.prank(_agent);
        escrow.dispute(t);
        vm.warp(UNTIL + 1);
        _refused(_agent, input, IEscrow.NotRenterOrProvider.selector);
    }

    /// @dev A party that is the other side's agent still speaks for itself.
    function test_Agent_IsTheOtherSide() public {
        Terms memory t = _running();
        _appoint(renter, provider, UNTIL);
        _appoint(provider, renter, UNTIL);
        skip(1000);
        uint256 before = vm.snapshotState();
        _stop(t, provider);
        assertEq(escrow.rental(escrow.hashTerms(t)).claimSecs, 600, "as the provider");
        _refused(provider, abi.encodeCall(escrow.dispute, (t)), IEscrow.NothingToDispute.selector);
        vm.prank(provider);
        escrow.concede(t);
        assertEq(escrow.balanceOf(provider, address(usdc)), 360_000, "to the renter");
        vm.revertToState(before);
        _refused(provider, abi.encodeCall(escrow.contest, (t, 1)), IEscrow.NotRenter.selector);
        _stop(t, renter);
        assertEq(escrow.balanceOf(provider, address(usdc)), 900_000, "as the renter");
    }

    /// @dev It takes no money, spends none and agrees to nothing.
    function test_Agent_CannotDoMore() public {
        Terms memory t = _running();
        Terms memory waiting = _terms(address(usdc), "waiting");
        _lock(waiting, DEPOSIT);
        _prepay(renter, address(usdc), DEPOSIT);
        skip(1000);
        escrow.release(t);
        _appoint(renter, _agent, UNTIL);
        _appoint(provider, _agent, UNTIL);
        Terms memory next = _terms(address(usdc), "next");
        bytes memory lock = _signature(_key("agent"), _prepaidDigest(next, DEPOSIT));
        bytes memory withdrawal =
            _signature(_key("agent"), _withdrawalDigest(renter, address(usdc), _agent, 1, 0, UNTIL));
        bytes memory agreed = _signature(_key("agent"), _agreedDigest(t, 500, UNTIL));
        _refused(_agent, abi.encodeCall(escrow.lock, (next, DEPOSIT)), IEscrow.NotRenter.selector);
        _refused(_agent, abi.encodeCall(escrow.lockPrepaid, (next, DEPOSIT, "")), IEscrow.BadSignature.selector);
        _refused(_agent, abi.encodeCall(escrow.lockPrepaid, (next, DEPOSIT, lock)), IEscrow.BadSignature.selector);
        _refused(
            _agent, abi.encodeCall(escrow.withdraw, (address(usdc), _agent, 0)), IEscrow.InsufficientBalance.selector
        );
        bytes memory input = abi.encodeCall(escrow.withdrawBySig, (renter, address(usdc), _agent, 1, UNTIL, withdrawal));
        _refused(_agent, input, IEscrow.BadSignature.selector);
        input = abi.encodeCall(escrow.closeAgreed, (t, 500, UNTIL, EndSignatures(agreed, agreed)));
        _refused(_agent, input, IEscrow.BadSignature.selector);
        input = abi.encodeCall(escrow.closeAgreed, (t, 500, UNTIL, EndSignatures("", "")));
        _refused(_agent, input, IEscrow.BadSignature.selector);
        _refused(_agent, abi.encodeCall(escrow.cancel, (waiting)), IEscrow.NotOperatorOrProvider.selector);
        assertEq(usdc.balanceOf(_agent) + escrow.balanceOf(_agent, address(usdc)), 0, "nothing");
    }

    /// @dev An account's agent speaks for that account alone.
    function test_Agent_OfAnother() public {
        Terms memory t = _running();
        _appoint(stranger, _agent, UNTIL);
        _refused(_agent, abi.encodeCall(escrow.stop, (t)), IEscrow.NotRenterOrProvider.selector);
        bytes memory signature = _signature(_key("agent"), _endDigest(t, T0, 0));
        vm.prank(operator);
        vm.expectRevert(IEscrow.BadSignature.selector);
        escrow.close(t, T0, 0, EndSignatures(signature, ""));
        _assertStatus(escrow.hashTerms(t), Status.Active);
    }

    function _running() private returns (Terms memory t) {
        t = _terms();
        t.holdback = 600;
        _activate(t, DEPOSIT);
    }

    function _appoint(address account, address agent, uint40 expiresAt) private {
        vm.prank(account);
        escrow.setAgent(agent, expiresAt);
    }
}
