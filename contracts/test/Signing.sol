// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

import {Terms} from "../src/IEscrow.sol";
import {Fixture} from "./Fixture.sol";

/// @notice What people sign, put together by forge's own EIP-712 encoder from the types in words, not by the escrow.
abstract contract Signing is Fixture {
    string internal constant TERMS_TYPE =
        "Terms(address renter,address provider,address token,uint96 pricePerHour,uint16 feeBps,uint40 startBy,uint32 holdback,bytes32 orderHash)";
    uint256 internal constant CURVE_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141;

    /// @dev The key behind `makeAddr(name)`.
    function _key(string memory name) internal returns (uint256 key) {
        (, key) = makeAddrAndKey(name);
    }

    function _signature(uint256 key, bytes32 digest) internal pure returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, digest);
        return abi.encodePacked(r, s, v);
    }

    /// @dev 64 bytes, as in ERC-2098.
    function _compact(uint256 key, bytes32 digest) internal pure returns (bytes memory) {
        (bytes32 r, bytes32 vs) = vm.signCompact(key, digest);
        return abi.encodePacked(r, vs);
    }

    function _typed(string memory typeNameAndDefinition, bytes memory encoded) internal view returns (bytes32) {
        return _typedIn(_domainOf(block.chainid, address(escrow)), typeNameAndDefinition, encoded);
    }

    function _typedIn(bytes32 domain, string memory definition, bytes memory encoded) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked("\x19\x01", domain, vm.eip712HashStruct(definition, encoded)));
    }

    function _domainOf(uint256 chainId, address verifier) internal pure returns (bytes32) {
        return keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256("Weir Escrow"),
                keccak256("1"),
                chainId,
                verifier
            )
        );
    }

    function _endDigest(Terms memory t, uint40 stoppedAt, uint32 creditSecs) internal view returns (bytes32) {
        return _typed(
            "End(bytes32 id,uint40 stoppedAt,uint32 creditSecs)", abi.encode(escrow.hashTerms(t), stoppedAt, creditSecs)
        );
    }

    function _agreedDigest(Terms memory t, uint32 billedSecs, uint40 validUntil) internal view returns (bytes32) {
        return _typed(
            "AgreedEnd(bytes32 id,uint32 billedSecs,uint40 validUntil)",
            abi.encode(escrow.hashTerms(t), billedSecs, validUntil)
        );
    }

    function _prepaidDigest(Terms memory t, uint96 deposit) internal view returns (bytes32) {
        return _prepaidDigestIn(_domainOf(block.chainid, address(escrow)), t, deposit);
    }

    function _prepaidDigestIn(bytes32 domain, Terms memory t, uint96 deposit) internal pure returns (bytes32) {
        return
            _typedIn(
                domain, string.concat("PrepaidLock(Terms terms,uint96 deposit)", TERMS_TYPE), abi.encode(t, deposit)
            );
    }

    function _withdrawalDigest(
        address account,
        address token,
        address to,
        uint96 amount,
        uint256 nonce,
        uint256 deadline
    )
        internal
        view
        returns (bytes32)
    {
        return _typed(
            "Withdrawal(address account,address token,address to,uint96 amount,uint256 nonce,uint256 deadline)",
            abi.encode(account, token, to, amount, nonce, deadline)
        );
    }

    /// @dev Pays into `account`'s balance, from the renter.
    function _prepay(address account, address token, uint96 amount) internal {
        vm.prank(renter);
        escrow.prepay{value: token == NATIVE ? amount : 0}(account, token, amount);
    }

    /// @dev Changes one field of the terms, `which` of the eight, by `delta`, within its width.
    function _change(Terms memory t, uint256 which, uint256 delta) internal pure returns (Terms memory other) {
        other = Terms({
            renter: t.renter,
            provider: t.provider,
            token: t.token,
            pricePerHour: t.pricePerHour,
            feeBps: t.feeBps,
            startBy: t.startBy,
            holdback: t.holdback,
            orderHash: t.orderHash
        });
        uint256 width = [uint256(160), 160, 160, 96, 16, 40, 32, 256][which];
        uint256 mask = type(uint256).max >> (256 - width);
        delta &= mask;
        if (delta == 0) delta = 1;
        assembly ("memory-safe") {
            let field := add(other, mul(which, 0x20))
            mstore(field, xor(mload(field), delta))
        }
    }
}
